"""The command line: one file a command; torch is imported late."""
