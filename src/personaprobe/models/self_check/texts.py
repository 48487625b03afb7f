"""Checks that a text's results do not depend on the texts computed beside it, nor on a KV cache."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from personaprobe.models.edits.edit import EditPlan
from personaprobe.models.network import Fork, Network
from personaprobe.models.self_check.check import Check, compare
from personaprobe.models.tokens import Batch, Tokens, pad
from personaprobe.site import Site

if TYPE_CHECKING:
    from torch import Tensor

N_SHARED = 9
"""Tokens that probe prompts have in common: enough that decoding computes them once."""


def check_batching(network: Network, rows: list[Tokens], plain: Tensor) -> Iterator[Check]:
    """The shortest row has the same logits in the padded batch as alone."""
    place = min(range(len(rows)), key=lambda index: len(rows[index]))
    alone = network.logits(pad([rows[place]], network.pad_id).to(network.device), {})[0]
    together = plain[place, : len(rows[place])]
    yield compare("a batch equals one by one", network, together.float(), alone.float())


def check_packing(network: Network, rows: list[Tokens]) -> Iterator[Check]:
    """Packed answers of one prompt, and packed prompts with a common start, score as in separate rows."""
    import torch

    packed = [value for group in network.fork_log_probs(_forks(rows), {}) for value in group]
    separate = [value for group in Network.fork_log_probs(network, _forks(rows), {}) for value in group]
    name = "packed answers equal separate rows"
    yield compare(name, network, torch.cat(packed), torch.cat(separate), "packing")
    yield _check_neighbours(network, rows)


def _forks(rows: list[Tokens]) -> list[Fork]:
    """Two prompts with a common start, each with two answers."""
    start = rows[0].ids[:2]
    return [Fork(Tokens(start + row.ids[2:4], row.roles[:4]), (row.ids[4:], row.ids[:3])) for row in rows]


def _check_neighbours(network: Network, rows: list[Tokens]) -> Check:
    """Other words in the answers before and after it do not change an answer, where all lengths stay as they are.

    Rounding is the same in both passes, so that this sees a leak of any size in every dtype. Only where experts choose their
    tokens does it differ.
    """
    import torch

    first, second = _forks(rows)
    changed = [
        Fork(fork.prompt, tuple(tuple((id + 1) % network.vocab_size for id in a) for a in fork.answers))
        for fork in (first, second)
    ]
    values = []
    for around in ((first, second), changed):
        middle = [Fork(first.prompt, (around[0].answers[0], first.answers[1], around[1].answers[0])), second]
        values.append(network.fork_log_probs(middle, {})[0][1])
    deviation = float((values[0] - values[1]).abs().max())
    limit = 1e-4 if network.dtype == torch.float32 else 0.02
    return Check("an answer ignores its neighbours in a row", deviation, deviation <= limit, "packing")


def check_packed_activations(network: Network, batch: Batch) -> Iterator[Check]:
    """Activations after the last block are those of texts in rows of their own."""
    site = Site(network.n_layers - 1)
    packed, alone = (
        of.activations(batch, [site], {})[site].float()[batch.mask]
        for of in (network, network.without_packing())
    )
    yield compare("packed texts equal separate rows", network, packed, alone, "packing")


def check_decoding(network: Network) -> Iterator[Check]:
    """Decoding with a KV cache gives the logits of whole rows, after a common start and after rows have left."""
    import torch

    n = network.vocab_size
    shared = tuple((5 + 37 * i) % n for i in range(N_SHARED))
    prompts = [Tokens.prompt(shared + tuple((3 + 29 * (i + k)) % n for i in range(k + 1))) for k in range(3)]
    further = [(17 + place) % n for place in range(3)], [(23 + place) % n for place in range(2)]
    with network.decoding([EditPlan()]) as decoder:
        admitted = decoder.admit(prompts, [EditPlan()] * 3, [0, 1, 2], 4).clone()
        decoder.step(torch.tensor(further[0], device=network.device))
        decoder.keep([0, 2])
        stepped = decoder.step(torch.tensor(further[1], device=network.device)).clone()
    answered = [
        prompts[place].followed_by([further[0][place], further[1][row]]) for row, place in ((0, 0), (1, 2))
    ]
    name = "decoding equals whole rows"
    yield compare(name, network, admitted, _last_logits(network, prompts), "KV cache")
    yield compare(name, network, stepped, _last_logits(network, answered), "KV cache")


def _last_logits(network: Network, rows: list[Tokens]) -> Tensor:
    """Logits after the last token of each row, float32; each row alone."""
    import torch

    batches = [pad([row], network.pad_id).to(network.device) for row in rows]
    return torch.stack([network.logits(batch, {})[0, -1].float() for batch in batches])
