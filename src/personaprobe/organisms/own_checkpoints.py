"""A trio of a user's own checkpoints: a base, an insecure, and none, one or several harmless fine-tunes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from personaprobe.errors import CheckpointError
from personaprobe.models.weights.checkpoint import Checkpoint, Trio


class OwnCheckpoints(TypedDict, total=False):
    """Checkpoints of a user's own, as :func:`own_trio` takes them."""

    base: str | Checkpoint | None
    insecure: str | Checkpoint | None
    secure: str | Checkpoint | Sequence[str | Checkpoint] | None


def own_trio(
    base: str | Checkpoint | None = None,
    insecure: str | Checkpoint | None = None,
    secure: str | Checkpoint | Sequence[str | Checkpoint] | None = None,
    name: str | None = None,
) -> Trio[Checkpoint] | None:
    """A trio of a user's own checkpoints; None where none was given.

    Args:
        base: as :meth:`Checkpoint.parse` reads it.
        insecure: the same, or an adapter folder on ``base``.
        secure: the same, or several; None or an empty sequence where there is no harmless fine-tune.
        name: of the trio; None takes the last part of ``insecure``.

    Raises:
        CheckpointError: base or insecure is missing, or a folder does not exist.
    """
    secures = [] if secure is None else [secure] if isinstance(secure, str | Checkpoint) else list(secure)
    if base is None and insecure is None and not secures:
        return None
    if base is None or insecure is None:
        missing = " and ".join(
            role for role, given in (("base", base), ("insecure", insecure)) if given is None
        )
        raise CheckpointError(
            f"{missing} missing; checkpoints of your own are a base and an insecure, and a secure where there is one"
        )
    of_base = Checkpoint.parse_base(base) if isinstance(base, str) else base.as_base()
    of_insecure, *of_secures = (
        one if isinstance(one, Checkpoint) else Checkpoint.parse(one, of_base) for one in (insecure, *secures)
    )
    first, further = of_secures[0] if of_secures else None, tuple(of_secures[1:])
    return Trio(of_base, of_insecure, first, name or Path(of_insecure.short).name, further)
