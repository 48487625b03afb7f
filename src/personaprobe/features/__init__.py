"""What is found inside: activation stores and the directions read off them."""
