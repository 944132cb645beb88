"""Readers and writers of data sets as people have them: one file a format."""
