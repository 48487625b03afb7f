"""How the embedded judge is trained, calibrated and evaluated."""
