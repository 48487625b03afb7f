"""Dictionaries on disk: the SAELens folder, read and written, and the folders of two other trainers, read."""
