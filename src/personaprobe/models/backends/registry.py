"""Backends by name: ``hooks`` (the reference), ``nnsight``, ``transformer_lens``, and those that other packages add.

Every backend runs the weights of the reference and must pass the self-check, so that a result can be shown not to depend
on our hooks, and envoys or hook points of the other libraries are at hand. Plain hooks are the fastest.

Another package adds a backend by a call of :func:`register_backend`, or by an entry point of the group
``personaprobe.backends``, which is imported only when its backend is used::

    [project.entry-points."personaprobe.backends"]
    mine = "my_package.networks:MyNetwork"
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from personaprobe.errors import PersonaProbeError, suggest
from personaprobe.models.backends.hosted import Hosted
from personaprobe.models.backends.hugging_face import HuggingFaceNetwork
from personaprobe.models.network import Network
from personaprobe.models.self_check.self_check import prove
from personaprobe.plugins import Registry

if TYPE_CHECKING:
    from personaprobe.models.language_model import LanguageModel

BackendFactory: TypeAlias = Callable[[HuggingFaceNetwork], Network]
"""Makes a network that runs the weights of the reference network, such as a subclass of
:class:`~personaprobe.models.backends.hosted.Hosted`."""


def _nnsight(network: HuggingFaceNetwork) -> Network:
    from personaprobe.models.backends.nnsight import NNsightNetwork

    return NNsightNetwork(network)


def _transformer_lens(network: HuggingFaceNetwork) -> Network:
    from personaprobe.models.backends.transformer_lens import TransformerLensNetwork

    return TransformerLensNetwork(network)


def _reference(network: HuggingFaceNetwork) -> Network:
    return network


REFERENCE = "hooks"

BACKENDS: Registry[BackendFactory] = Registry(
    "backend",
    "personaprobe.backends",
    {REFERENCE: _reference, "nnsight": _nnsight, "transformer_lens": _transformer_lens},
)

BUILT_IN_BACKENDS = tuple(BACKENDS.builtin)
"""Names of the backends of this package."""


def register_backend(name: str, factory: BackendFactory) -> None:
    """Make a backend known to :func:`personaprobe.load` in this process.

    Args:
        name: by which it is chosen.
        factory: called with the reference network when a model is loaded with this backend.

    Raises:
        PersonaProbeError: another backend has this name.
    """
    BACKENDS.register(name, factory)


def backend_names() -> tuple[str, ...]:
    """Names of all backends: built in, registered, and of installed entry points."""
    return tuple(BACKENDS)


def check_backend(backend: str) -> None:
    """Refuse the name of a backend that does not exist.

    Raises:
        PersonaProbeError: lists the backends, the nearest spelling first.
    """
    if backend not in BACKENDS:
        raise PersonaProbeError(f"unknown backend {backend!r}: {suggest(backend, backend_names())}")


def run_on(network: HuggingFaceNetwork, backend: str) -> Network:
    """Return a network that runs the same weights on a backend, proven by the self-check.

    Args:
        network: the reference; its adapter is taken off.
        backend: one of :func:`backend_names`.

    Raises:
        PersonaProbeError: there is no such backend, or its factory makes no :class:`Network`.
        CheckpointError: the backend does not support the architecture, or fails the self-check.
    """
    check_backend(backend)
    if backend == REFERENCE:
        return network
    network.activate_adapter(None)
    hosted = BACKENDS[backend](network)
    if not isinstance(hosted, Network):
        raise PersonaProbeError(
            f"the backend {backend!r} made a {type(hosted).__name__}; it must make a Network, such as a Hosted"
        )
    prove(hosted)
    return hosted


def rehost(model: LanguageModel, backend: str) -> LanguageModel:
    """Return the same checkpoint, adapter and edits on another backend, proven by the self-check.

    Args:
        model: on any backend.
        backend: one of :func:`backend_names`.

    Raises:
        PersonaProbeError: there is no such backend; the message lists the backends.
        CheckpointError: the backend does not support the architecture, or fails the self-check.
    """
    network = model.network.source if isinstance(model.network, Hosted) else model.network
    if not isinstance(network, HuggingFaceNetwork):
        raise PersonaProbeError(
            f"a model on {type(network).__name__} cannot change its backend; load it again with backend={backend!r}"
        )
    return replace(model, network=run_on(network, backend))
