"""Training objectives of dictionaries, one file per architecture."""
