"""The arms of a study: what is done to a model, and the same measurements for every one of them."""
