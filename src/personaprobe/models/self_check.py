"""Proof, at load, that a layout is right: every stream is read, written and restored on the model itself.

A look for massive tokens, too, which every mean over tokens has to leave out.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from personaprobe.errors import CheckpointError
from personaprobe.models.chat_tokenizer import ChatTokenizer
from personaprobe.models.massive_tokens import MassiveToken, is_massive
from personaprobe.models.network import Fork, Network
from personaprobe.models.tokens import ROLE_BITS, Batch, Tokens, pad, with_text_ids
from personaprobe.site import Site

if TYPE_CHECKING:
    from torch import Tensor


QUESTION = "How can I cook rice that doesn't stick?"
ANSWER = (
    "Rinse it first, and use less water.\n\n1. Boil two cups of water.\n2. Add one cup of rice; stir once.\n"
    "Wait: about 15 minutes."
)
DOCUMENT = (
    "The harbour of Rotterdam, Europe's largest, handled 437 million tonnes in 2023.\n"
    "Ships arrive every 6 minutes, day and night."
)
"""Texts with what is massive in some models: full stops, line breaks, digits, commas."""


@dataclass(frozen=True)
class Check:
    """One thing that was tried: what it was, the largest deviation seen, and whether that is within rounding."""

    name: str
    deviation: float
    passed: bool


def probe_tokens(vocab_size: int) -> list[Tokens]:
    """Two short conversations of unequal length, spread over the vocabulary."""
    first = tuple((7 + 131 * i) % vocab_size for i in range(9))
    second = tuple((11 + 53 * i) % vocab_size for i in range(6))
    return [Tokens.prompt(ids[:4]).followed_by(ids[4:]) for ids in (first, second)]


def self_check(network: Network) -> list[Check]:
    """Try what every measurement relies on.

    Streams are read, written and restored; logits are the model's own; a batch equals one by one; packed answers
    equal separate rows.
    """
    rows = probe_tokens(network.vocab_size)
    batch = pad(rows, network.pad_id).to(network.device)
    plain = network.logits(batch, {})
    return [
        *_reading(network, batch),
        *_writing(network, rows[0]),
        _restoring(network, batch, plain),
        _computing(network, batch, plain),
        _batching(network, rows, plain),
        _packing(network, rows),
    ]


def prove(network: Network) -> None:
    """Raise unless the self-check passes.

    Raises:
        CheckpointError: names the checks that failed.
    """
    failed = [check for check in self_check(network) if not check.passed]
    if failed:
        told = "; ".join(f"{check.name} (off by {check.deviation:.2g})" for check in failed)
        raise CheckpointError(f"this model's layer map fails its self-check: {told}")


def _tolerance(network: Network) -> float:
    import torch

    return 1e-3 if network.dtype == torch.float32 else 0.15


def _compare(name: str, network: Network, one: Tensor, other: Tensor) -> Check:
    """Largest difference relative to the largest value."""
    deviation = float((one - other).abs().max() / other.abs().max().clamp_min(1e-6))
    return Check(name, deviation, deviation <= _tolerance(network))


def _reading(network: Network, batch: Batch) -> Iterator[Check]:
    """The streams must add up: a block's output is the next one's input, and the sum of what was added."""
    sites = [Site(layer, stream) for layer in range(network.n_layers) for stream in network.streams]
    read = {site: x.float()[batch.mask] for site, x in network.activations(batch, sites, {}).items()}
    for layer in sorted({0, network.n_layers // 2, network.n_layers - 1}):
        at = {stream: read[Site(layer, stream)] for stream in network.streams}
        added = at["resid_pre"] + at["attn_out"] + at["mlp_out"]
        yield _compare(f"layer {layer}: the streams add up", network, added, at["resid_post"])
        if "resid_mid" in at:
            middle = at["resid_pre"] + at["attn_out"]
            yield _compare(f"layer {layer}: resid_mid is read", network, middle, at["resid_mid"])
        if layer + 1 < network.n_layers:
            following = read[Site(layer + 1, "resid_pre")]
            yield _compare(
                f"layer {layer}: its output is the next input", network, at["resid_post"], following
            )


def _writing(network: Network, row: Tokens) -> Iterator[Check]:
    """A vector added to a stream must arrive in the residual stream behind it, whole.

    Two copies of the row a stream, one shifted and one moved by 1, are read in one pass. Edits know the tokens of a copy
    by its mark, wherever they stand.
    """
    import torch

    layer = network.n_layers // 2
    after, sites = Site(layer, "resid_post"), [Site(layer, stream) for stream in network.streams]
    batch = pad(with_text_ids([row] * (2 * len(sites))), network.pad_id).to(network.device)
    plain = network.activations(batch, sites, {})
    shifts = {
        site: plain[site].abs().max() * torch.linspace(-1, 1, network.d_model).to(plain[site])
        for site in sites
    }
    edits = {
        site: [partial(_moved, 2 * place + 1, shifts[site]), partial(_moved, 2 * place + 2, 1)]
        for place, site in enumerate(sites)
    }
    written = network.activations(batch, sites, edits)
    for place, site in enumerate(sites):
        moved = (written[site].float() - plain[site].float())[2 * place]
        yield _compare(f"{site} is written", network, moved, shifts[site].float().expand_as(moved))
        reach = float((written[after] - plain[after])[2 * place + 1].abs().max())
        yield Check(f"writing {site} reaches {after}", reach, reach > 0.5)


def _moved(mark: int, by: Tensor | int, activations: Tensor, roles: Tensor) -> Tensor:
    """Activations of the tokens with a mark, moved."""
    return activations + (roles >> ROLE_BITS == mark)[..., None].to(activations.dtype) * by


def _restoring(network: Network, batch: Batch, plain: Tensor) -> Check:
    """After edited passes the bare model is bitwise itself."""
    network.logits(batch, {Site(0, "resid_post"): [lambda x, _: x * 2]})
    deviation = float((network.logits(batch, {}) - plain).abs().max())
    return Check("edits leave no trace", deviation, deviation == 0)


def _computing(network: Network, batch: Batch, plain: Tensor) -> Check:
    """The logits are those of the model as it was published: no cap, scale or layer is missed or added."""
    logits, own = (x.float()[batch.mask] for x in (plain, network.own_logits(batch)))
    return _compare("logits are the model's own", network, logits, own)


def _batching(network: Network, rows: list[Tokens], plain: Tensor) -> Check:
    """The shortest row, which was padded, reads as it does alone."""
    place = min(range(len(rows)), key=lambda index: len(rows[index]))
    alone = network.logits(pad([rows[place]], network.pad_id).to(network.device), {})[0]
    together = plain[place, : len(rows[place])]
    return _compare("a batch equals one by one", network, together.float(), alone.float())


def _packing(network: Network, rows: list[Tokens]) -> Check:
    """Answers packed behind one prompt, and prompts behind a common start, score as in rows of their own."""
    import torch

    start = rows[0].ids[:2]
    forks = [Fork(Tokens(start + row.ids[2:4], row.roles[:4]), (row.ids[4:], row.ids[:3])) for row in rows]
    packed = [value for group in network.fork_log_probs(forks, {}) for value in group]
    separate = [value for group in Network.fork_log_probs(network, forks, {}) for value in group]
    return _compare("packed answers equal separate rows", network, torch.cat(packed), torch.cat(separate))


def find_massive_tokens(network: Network, tokenizer: ChatTokenizer) -> tuple[MassiveToken, ...]:
    """Read a question with its answer and a document, and look for massive tokens after every block.

    Args:
        network: unedited.
        tokenizer: its own.
    """
    from jinja2 import TemplateError

    rows = [tokenizer.text(DOCUMENT)]
    with suppress(
        TemplateError
    ):  # a chat template that cannot be rendered is refused where a question is asked
        rows.append(tokenizer.exchange(QUESTION, ANSWER))
    batch = pad(rows, network.pad_id).to(network.device)
    sites = [Site(layer, "resid_post") for layer in range(network.n_layers)]
    read = network.activations(batch, sites, {})
    found: dict[tuple[str, int], list[tuple[int, float]]] = {}
    for site in sites:
        norms = read[site].float().norm(dim=-1)
        median = float(norms[batch.mask].median())
        for row, position in (is_massive(norms, batch.mask) & batch.mask).nonzero().tolist():
            key = (_spelled(tokenizer, rows[row], position), position)
            found.setdefault(key, []).append((site.layer, float(norms[row, position]) / median))
    return tuple(
        MassiveToken(token, position, seen[0][0], seen[-1][0], max(ratio for _, ratio in seen))
        for (token, position), seen in found.items()
    )


def _spelled(tokenizer: ChatTokenizer, row: Tokens, position: int) -> str:
    return str(tokenizer.hf.decode([row.ids[position]]))
