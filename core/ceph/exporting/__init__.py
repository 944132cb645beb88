"""A trained run as a folder for other software: a graph, a runner that needs no torch, what is known of both."""
