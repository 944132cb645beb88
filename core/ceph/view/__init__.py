"""A local page to look at the films of runs: where each found its landmarks, and where it did not."""
