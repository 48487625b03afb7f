"""The hook engine: the only place that registers hooks.

One callback per site runs that site's edits and then keeps what a tap asked for, so that reading and writing meet
the same tensor. Hooks live for one ``with`` block and are gone after it, also after an exception.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any

from personaprobe.models.edits.edit import SiteEdits, apply
from personaprobe.models.edits.layout import Layout
from personaprobe.site import Site

if TYPE_CHECKING:
    from torch import Tensor, nn


class Reached(Exception):
    """Raised by the deepest tap of a reading pass: nothing behind it is needed."""


class Hooks:
    """Edits and taps, installed on a model for the length of a ``with`` block.

    Attributes:
        edits: by site; others may take their place at the sites where hooks were installed.
        roles: ``(batch, pos)`` roles of the tokens now in flight; set before every forward pass.
        read: what the taps saw, by site, after that site's edits.
    """

    def __init__(
        self, layout: Layout, edits: SiteEdits, taps: Collection[Site] = (), *, stop: bool = False
    ) -> None:
        self.read: dict[Site, Tensor] = {}
        self.roles: Tensor | None = None
        self._layout = layout
        self.edits = edits
        self._taps = frozenset(taps)
        self._last = max(taps) if stop and taps else None
        self._installed = ExitStack()

    def __enter__(self) -> Hooks:
        with ExitStack() as stack:
            for site in sorted({*self.edits, *self._taps}):
                stack.callback(self._install(site).remove)
            self._installed = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._installed.close()

    def _install(self, site: Site) -> Any:
        module = self._layout.module(site.layer, site.stream)
        visit = self._visitor(site)
        match site.stream:
            case "resid_pre":
                return module.register_forward_pre_hook(_on_input(visit), with_kwargs=True)
            case "resid_mid":
                return module.register_forward_pre_hook(_in_place(visit), with_kwargs=True)
            case _:
                return module.register_forward_hook(_on_output(visit))

    def _visitor(self, site: Site) -> Callable[[Tensor], Tensor]:
        tapped = site in self._taps

        def visit(activations: Tensor) -> Tensor:
            assert self.roles is not None, "roles are set before a forward pass"
            activations = apply(self.edits.get(site, ()), activations, self.roles)
            if tapped:
                # resid_mid is edited in place downstream of a tap at the same storage: keep a copy
                self.read[site] = activations.clone() if site.stream == "resid_mid" else activations
                if site == self._last:
                    raise Reached
            return activations

        return visit


def _on_input(visit: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args:
            return (visit(args[0]), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": visit(kwargs["hidden_states"])}

    return hook


def _in_place(visit: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
    """Edit the residual stream between attention and MLP.

    The norm's input is the very tensor that the block adds the MLP to, so that writing into it changes both.
    """

    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        stream = args[0] if args else kwargs["hidden_states"]
        edited = visit(stream)
        if edited is not stream:
            stream.copy_(edited)

    return hook


def _on_output(visit: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
    """Edit a module's output, which is a bare tensor or a tuple that starts with it."""

    def hook(_: nn.Module, __: tuple[Any, ...], output: Any) -> Any:
        if isinstance(output, tuple):
            return (visit(output[0]), *output[1:])
        return visit(output)

    return hook
