"""The hook engine: the only module that registers hooks.

One callback per site applies the site's edits and then stores what a tap requested, so that reading and writing see
the same tensor. Hooks exist for one ``with`` block and are removed after it, also after an exception.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any

from personaprobe.models.edits.edit import SiteEdits, apply
from personaprobe.models.edits.layout import Layout
from personaprobe.models.edits.rank_one import EditProjection
from personaprobe.site import Site

if TYPE_CHECKING:
    from torch import Tensor, nn


class LastTapReached(Exception):
    """Raised by the deepest tap of a reading pass, since the blocks after it need not run."""


class Hooks:
    """Edits and taps, installed on a model for the length of a ``with`` block.

    Attributes:
        edits: by site; other edits may replace them at the sites where hooks were installed.
        roles: ``(batch, pos)`` roles of the tokens of the current pass; set before every forward pass.
        read: activations at the taps, by site, after that site's edits.
    """

    def __init__(
        self,
        layout: Layout,
        edits: SiteEdits,
        taps: Collection[Site] = (),
        *,
        stop: bool = False,
        project: EditProjection | None = None,
    ) -> None:
        """Install nothing yet.

        Args:
            layout: where the streams are.
            edits: by site.
            taps: sites whose activations are stored in :attr:`read`.
            stop: end the pass at the deepest tap by raising :class:`LastTapReached`.
            project: computes edits along a direction, see :func:`personaprobe.models.edits.edit.apply`.
        """
        self.read: dict[Site, Tensor] = {}
        self.roles: Tensor | None = None
        self._layout = layout
        self.edits = edits
        self._taps = frozenset(taps)
        self._last = max(taps) if stop and taps else None
        self._project = project
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
        """The function that edits and stores the activations of one site."""
        tapped = site in self._taps

        def visit(activations: Tensor) -> Tensor:
            assert self.roles is not None, "roles are set before a forward pass"
            activations = apply(self.edits.get(site, ()), activations, self.roles, self._project)
            if tapped:
                # the block writes into the storage of resid_mid after the tap, so a copy is stored
                self.read[site] = activations.clone() if site.stream == "resid_mid" else activations
                if site == self._last:
                    raise LastTapReached
            return activations

        return visit


@contextmanager
def inputs_of(module: nn.Module) -> Iterator[list[Tensor]]:
    """Collect the first input of a module in every forward pass inside the ``with`` block."""
    inputs: list[Tensor] = []
    handle = module.register_forward_pre_hook(lambda _, args: inputs.append(args[0].detach()))
    try:
        yield inputs
    finally:
        handle.remove()


def _on_input(visit: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
    """Edit a module's first input, which is positional or named ``hidden_states``."""

    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args:
            return (visit(args[0]), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": visit(kwargs["hidden_states"])}

    return hook


def _in_place(visit: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
    """Edit the residual stream between attention and MLP.

    The input of the norm is the very tensor to which the block adds the MLP's output. Writing into it changes both.
    """

    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        stream = args[0] if args else kwargs["hidden_states"]
        edited = visit(stream)
        if edited is not stream:
            stream.copy_(edited)

    return hook


def _on_output(visit: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
    """Edit a module's output, which is a tensor or a tuple that starts with one."""

    def hook(_: nn.Module, __: tuple[Any, ...], output: Any) -> Any:
        if isinstance(output, tuple):
            return (visit(output[0]), *output[1:])
        return visit(output)

    return hook
