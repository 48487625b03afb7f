"""Errors a user can act on: what was wrong, what came, what is allowed, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PersonaProbeError(ValueError):
    """Something the user gave, or the machine they run on, does not fit; the message says what to do."""


class FallbackWarning(UserWarning):
    """Work goes on, in another way than it was begun."""


class SiteError(PersonaProbeError):
    """A layer or a stream that does not exist, in general or in this model."""


class CheckpointError(PersonaProbeError):
    """Weights that are missing, corrupt, of another base, or that do nothing."""


class DeviceError(PersonaProbeError):
    """A device or dtype that this machine does not have."""


class DataError(PersonaProbeError):
    """A file of questions, answers, activations or directions that cannot be used."""


class FeatureError(PersonaProbeError):
    """A feature that is not registered, or a direction that does not fit the model."""


class EndpointError(PersonaProbeError):
    """A model behind an endpoint that cannot be asked, or does not answer."""


class OutputError(PersonaProbeError):
    """A place that cannot be written."""


def suggest(name: str, allowed: Iterable[str]) -> str:
    """Say what is allowed, and name the nearest spelling first.

    Examples:
        >>> suggest("flatery", ["flattery", "sarcasm"])
        'did you mean "flattery"? Allowed: flattery, sarcasm'
    """
    options = sorted(allowed)
    near = difflib.get_close_matches(name, options, n=1, cutoff=0.5)
    listed = f"Allowed: {', '.join(options) or '(none)'}"
    return f'did you mean "{near[0]}"? {listed}' if near else listed
