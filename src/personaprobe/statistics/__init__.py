"""How sure are we: intervals, comparisons of proportions, and hypothesis tests."""
