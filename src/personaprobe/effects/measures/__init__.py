"""What an intervention changes: preference, answers, perplexity, capability."""
