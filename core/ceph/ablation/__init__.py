"""An ablation: which cells, how they are trained, and what they show."""
