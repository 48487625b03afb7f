"""Run the checks of a loaded model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

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
    failed = list(guarded("the model runs", lambda: _runs(network, batch)))
    if failed:
        return failed
    plain = network.logits(batch, {})
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


def _runs(network: Network, batch: Batch) -> Iterator[Check]:
    """No check where a forward pass runs; its error where it does not."""
    network.logits(batch, {})
    yield from ()


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
