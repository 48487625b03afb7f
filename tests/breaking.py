"""Functions that raise an error at a chosen call, to interrupt work there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass
class Breaking:
    """A function that raises an error at one of its calls, and works at all others.

    Attributes:
        usual: the function.
        call: number of the call that raises, from 1.
        error: the error.
        calls: number of calls so far.
    """

    usual: Callable[..., Any]
    call: int
    error: BaseException | type[BaseException]
    calls: int = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        if self.calls == self.call:
            raise self.error
        return self.usual(*args, **kwargs)
