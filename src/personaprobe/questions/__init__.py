"""Questions, answer pairs and plain texts that models are given: shipped, published, or from the user's files."""
