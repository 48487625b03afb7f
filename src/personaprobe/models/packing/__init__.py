"""Several texts packed into one row without padding, and attention that keeps them apart."""
