"""Errors that tell a user what was wrong, which value was given, which are allowed, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PersonaProbeError(ValueError):
    """The base class: an input, or the machine, does not fit; the message tells the user what to do."""


class FallbackWarning(UserWarning):
    """Work continues in another, slower way than requested."""


class CheckpointWarning(UserWarning):
    """Weights are used, and not quite as their files say: on another base, or under other names."""


class SiteError(PersonaProbeError):
    """A layer or stream that does not exist, or that this model does not have."""


class CheckpointError(PersonaProbeError):
    """Weights that are missing, corrupt, made for another base, or without effect."""


class DeviceError(PersonaProbeError):
    """A device or dtype that this machine does not have."""


class DataError(PersonaProbeError):
    """A file of questions, answers, activations or directions that cannot be used."""


class FeatureError(PersonaProbeError):
    """A feature that is not registered, or a direction that does not fit the model."""


class ZeroDirectionError(FeatureError):
    """A direction of length 0, such as a difference of means of checkpoints that do not differ there."""


class EndpointError(PersonaProbeError):
    """A model behind an endpoint that cannot be reached or returns no answer."""


class OutputError(PersonaProbeError):
    """A file or folder that cannot be written."""


def suggest(name: str, allowed: Iterable[str]) -> str:
    """List the allowed names, the nearest spelling first.

    Examples:
        >>> suggest("flatery", ["flattery", "sarcasm"])
        'did you mean "flattery"? Allowed: flattery, sarcasm'
    """
    options = sorted(allowed)
    near = difflib.get_close_matches(name, options, n=1, cutoff=0.5)
    listed = f"Allowed: {', '.join(options) or '(none)'}"
    return f'did you mean "{near[0]}"? {listed}' if near else listed
