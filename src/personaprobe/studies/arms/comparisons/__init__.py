"""Comparisons of a feature beyond its matched controls: selected as it was, other organisms, words alone, found again."""
