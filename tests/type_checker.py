"""How the test run checks annotated types: an int passes for a float, as static type checkers have it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import jaxtyping
from beartype import BeartypeConf, beartype

tolerant = beartype(conf=BeartypeConf(is_pep484_tower=True))


@contextmanager
def unchecked_types() -> Iterator[None]:
    """Switch the checks off: a test gives a wrong type on purpose and reads the error that a user reads."""
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
