"""Intervals, comparisons of proportions, and hypothesis tests for answers that cluster in families of questions."""
