"""Measures of a model under interventions: preference, sampled responses and their coherence, damage, and capability."""
