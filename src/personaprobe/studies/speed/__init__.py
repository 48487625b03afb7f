"""How fast this machine works, as ratios to the bare model."""
