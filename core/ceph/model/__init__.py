"""The network, its weights, and the codec between points and maps."""
