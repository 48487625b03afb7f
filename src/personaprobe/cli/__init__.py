"""How it is asked: one small module per verb."""
