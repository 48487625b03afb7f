"""Training of dictionaries: objectives, parameters, batches and the trainer."""
