"""The questions the engine asks plugins, and how their answers combine."""
