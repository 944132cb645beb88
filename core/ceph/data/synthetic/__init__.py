"""Drawn films: a set with exact landmarks, from a table of head shapes; a file for each thing that is drawn."""
