"""Planted truths: small studies whose verdict is known, because the persona was planted."""
