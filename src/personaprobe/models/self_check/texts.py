"""Checks that a text's results do not depend on the texts computed beside it, nor on a KV cache."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
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
    """Packed answers of one prompt, and packed prompts with a common start, score as in separate rows.

    Other words in the answers before and after it do not change an answer, where all lengths stay as they are: rounding is
    then the same in both passes, so that this sees a leak of any size in every dtype. Only where experts choose their tokens
    does rounding differ.
    """
    import torch

    forks = _forks(rows)
    packed = _flat(network.fork_log_probs(forks, {}))
    separate = _flat(Network.fork_log_probs(network, forks, {}))
    name = "packed answers equal separate rows"
    yield compare(name, network, torch.cat(packed), torch.cat(separate), "packing")
    around = [_with_other_words(forks[0], network.vocab_size, but=1), *forks[1:]]
    ignoring = _flat(network.fork_log_probs(around, {}))[1]
    deviation = float((ignoring - packed[1]).abs().max())
    limit = 1e-4 if network.dtype == torch.float32 else 0.02
    yield Check("an answer ignores its neighbours in a row", deviation, deviation <= limit, "packing")


def _forks(rows: list[Tokens]) -> list[Fork]:
    """Two prompts with a common start, each with three answers."""
    start = rows[0].ids[:2]
    return [
        Fork(Tokens(start + row.ids[2:4], row.roles[:4]), (row.ids[4:], row.ids[:3], row.ids[1:5]))
        for row in rows
    ]


def _with_other_words(fork: Fork, vocab_size: int, but: int) -> Fork:
    """Change every token of all answers of a fork but one."""
    changed = tuple(tuple((token + 1) % vocab_size for token in answer) for answer in fork.answers)
    return replace(fork, answers=(*changed[:but], fork.answers[but], *changed[but + 1 :]))


def _flat(by_fork: list[list[Tensor]]) -> list[Tensor]:
    return [values for of_fork in by_fork for values in of_fork]


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
    last = _last_logits(network, [*prompts, *answered])
    yield compare(name, network, admitted, last[: len(prompts)], "KV cache")
    yield compare(name, network, stepped, last[len(prompts) :], "KV cache")


def _last_logits(network: Network, rows: list[Tokens]) -> Tensor:
    """Logits after the last token of each row, float32."""
    import torch

    logits = network.logits(pad(rows, network.pad_id).to(network.device), {})
    return torch.stack([of_row[len(row) - 1] for row, of_row in zip(rows, logits, strict=True)]).float()
