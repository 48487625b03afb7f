"""How findings leave: files other tools read."""
