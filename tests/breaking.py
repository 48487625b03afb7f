"""Work that is cut short at a call of one's choice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass
class Breaking:
    """A function that works as usual but for one call, which raises.

    Attributes:
        usual: the function.
        call: which one raises, from 1.
        error: what it raises.
        calls: how often it was called.
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
