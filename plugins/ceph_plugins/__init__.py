"""The built-in plugins; each is one file behind the same door as a stranger's."""
