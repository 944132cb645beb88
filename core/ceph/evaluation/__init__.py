"""From a trained network to numbers in millimetres."""
