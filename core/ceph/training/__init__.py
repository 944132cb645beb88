"""The loop, the loss, the optimiser, checkpoints, and the machine they run on."""
