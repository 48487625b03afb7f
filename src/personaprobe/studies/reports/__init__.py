"""Results as pages that work offline, rendered from plain data alone."""
