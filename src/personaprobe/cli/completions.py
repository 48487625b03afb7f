"""Names that a shell may complete to."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import click
    from click.shell_completion import CompletionItem


def organism_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem | str]:
    """The registered organisms."""
    from personaprobe.organisms.registry import registered_organisms

    return _plain_names(registered_organisms(), incomplete)


def feature_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem | str]:
    """The registered features."""
    from personaprobe.features.registry.registry import registered

    return _plain_names(registered(), incomplete)


def _plain_names(names: Iterable[str], incomplete: str) -> list[CompletionItem | str]:
    """Names with this beginning; those with blanks, quotes or control characters mean something else to a shell."""
    return [name for name in names if name.startswith(incomplete) and re.fullmatch(r"[\w.@:-]+", name)]
