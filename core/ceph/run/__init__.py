"""A run from beginning to end: put together, trained, gone on with, loaded again, and what it finds on films."""
