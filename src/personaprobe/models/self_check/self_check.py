"""Run the checks of a loaded model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from personaprobe.errors import CheckpointError
from personaprobe.models.network import Network, Reliance
from personaprobe.models.self_check.check import Check, guarded, probe_tokens
from personaprobe.models.self_check.streams import check_edits, check_logits, check_restored, check_streams
from personaprobe.models.self_check.texts import (
    check_batching,
    check_decoding,
    check_packed_activations,
    check_packing,
)
from personaprobe.models.tokens import Batch, pad

if TYPE_CHECKING:
    from torch import Tensor


def self_check(network: Network, layers: Sequence[int] | None = None) -> list[Check]:
    """Run the checks that every measurement relies on.

    Streams add up in every block; they are written and restored in some; logits are the model's own; a batch equals its rows
    one by one; packed answers equal separate rows, and ignore their neighbours; decoding equals whole rows.

    Args:
        network: of a loaded model.
        layers: where streams are written, such as one block of each kind; None: the block in the middle.
    """
    rows, plain_network = probe_tokens(network.vocab_size), network.without_packing()
    batch = pad(rows, network.pad_id).to(network.device)
    computed: list[Tensor] = []
    failed = list(guarded("the model runs", lambda: _runs(network, batch, computed)))
    if failed:
        return failed
    (plain,) = computed
    written = (network.n_layers // 2,) if layers is None else layers
    runs: list[tuple[str, Callable[[], Iterable[Check]], Reliance]] = [
        ("the streams are read", lambda: check_streams(plain_network, batch), "model"),
        ("the streams are written", lambda: check_edits(plain_network, rows[0], written), "model"),
        ("edits leave no trace", lambda: check_restored(plain_network, batch, plain), "model"),
        ("logits are the model's own", lambda: check_logits(plain_network, batch, plain), "model"),
        ("a batch equals one by one", lambda: check_batching(plain_network, rows, plain), "model"),
        ("packed answers equal separate rows", lambda: check_packing(network, rows), "packing"),
        ("packed texts equal separate rows", lambda: check_packed_activations(network, batch), "packing"),
        ("decoding equals whole rows", lambda: check_decoding(network), "KV cache"),
    ]
    return [check for name, checks, needed_by in runs for check in guarded(name, checks, needed_by)]


def _runs(network: Network, batch: Batch, computed: list[Tensor]) -> Iterator[Check]:
    """No check where a forward pass runs, whose logits are stored; its error where it does not."""
    computed.append(network.logits(batch, {}))
    yield from ()


def summary(checks: Iterable[Check]) -> list[Check]:
    """One check of every law, which many layers keep: the failed ones, or else the one that is furthest off."""
    by_law: dict[str, list[Check]] = {}
    for check in checks:
        by_law.setdefault(check.name.rpartition(": ")[2], []).append(check)
    return [
        check
        for of_law in by_law.values()
        for check in [one for one in of_law if not one.passed] or [max(of_law, key=lambda c: c.deviation)]
    ]


def prove(network: Network) -> None:
    """Raise unless the self-check passes.

    Raises:
        CheckpointError: names the checks that failed.
    """
    failed = [check for check in self_check(network) if not check.passed]
    if failed:
        raise CheckpointError(
            f"this model's layer map fails its self-check on {type(network).__name__}: {'; '.join(map(str, failed))}"
        )
