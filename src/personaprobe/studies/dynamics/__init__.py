"""How an organism comes to be: narrow skill and shift along the saved steps of its training."""
