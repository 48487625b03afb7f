"""Interventions on activations, and the energy that they remove."""
