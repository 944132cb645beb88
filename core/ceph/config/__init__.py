"""The config file: models, YAML with line numbers, presets, provenance."""
