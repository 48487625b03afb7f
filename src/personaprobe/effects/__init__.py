"""Effects of a feature outside: interventions, targets, measures, judges and the verdict."""
