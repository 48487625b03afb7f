"""The self-check at load: every stream is read, edited and restored on the model itself, which proves its layout.

Massive tokens are found here too, since every mean over tokens must leave them out.
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
"""Probe texts with the tokens that are massive in some models: full stops, line breaks, digits, commas."""


@dataclass(frozen=True)
class Check:
    """The result of one check: its name, the largest relative deviation, and whether that is within rounding."""

    name: str
    deviation: float
    passed: bool

    def __str__(self) -> str:
        return f"{self.name} (off by {self.deviation:.2g})"


def probe_tokens(vocab_size: int) -> list[Tokens]:
    """Two short conversations of unequal length, spread over the vocabulary."""
    first = tuple((7 + 131 * i) % vocab_size for i in range(9))
    second = tuple((11 + 53 * i) % vocab_size for i in range(6))
    return [Tokens.prompt(ids[:4]).followed_by(ids[4:]) for ids in (first, second)]


def self_check(network: Network) -> list[Check]:
    """Run the checks that every measurement relies on.

    Streams are read, edited and restored; logits are the model's own; a batch equals its rows one by one; packed answers
    equal separate rows.
    """
    rows = probe_tokens(network.vocab_size)
    batch = pad(rows, network.pad_id).to(network.device)
    plain = network.logits(batch, {})
    return [
        *_check_streams(network, batch),
        *_check_edits(network, rows[0]),
        _check_restored(network, batch, plain),
        _check_logits(network, batch, plain),
        _check_batching(network, rows, plain),
        _check_packing(network, rows),
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


def _tolerance(network: Network) -> float:
    import torch

    return 1e-3 if network.dtype == torch.float32 else 0.15


def _compare(name: str, network: Network, one: Tensor, other: Tensor) -> Check:
    """Largest difference relative to the largest value."""
    deviation = float((one - other).abs().max() / other.abs().max().clamp_min(1e-6))
    return Check(name, deviation, deviation <= _tolerance(network))


def _check_streams(network: Network, batch: Batch) -> Iterator[Check]:
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


def _check_edits(network: Network, row: Tokens) -> Iterator[Check]:
    """A vector added to a stream must arrive completely in the residual stream after it.

    One pass reads two copies of the row per stream: a vector is added to the first and 1 to the second. Edits select the
    tokens of a copy by its text id, wherever packing puts them.
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
        site: [partial(_shifted, 2 * index + 1, shifts[site]), partial(_shifted, 2 * index + 2, 1)]
        for index, site in enumerate(sites)
    }
    edited = network.activations(batch, sites, edits)
    for index, site in enumerate(sites):
        change = (edited[site].float() - plain[site].float())[2 * index]
        yield _compare(f"{site} is written", network, change, shifts[site].float().expand_as(change))
        effect = float((edited[after] - plain[after])[2 * index + 1].abs().max())
        yield Check(f"writing {site} reaches {after}", effect, effect > 0.5)


def _shifted(text_id: int, shift: Tensor | int, activations: Tensor, roles: Tensor) -> Tensor:
    """Add a shift to the activations of one text's tokens."""
    return activations + (roles >> ROLE_BITS == text_id)[..., None].to(activations.dtype) * shift


def _check_restored(network: Network, batch: Batch, plain: Tensor) -> Check:
    """After an edited pass, the unedited model computes bitwise what it did before."""
    network.logits(batch, {Site(0, "resid_post"): [lambda x, _: x * 2]})
    deviation = float((network.logits(batch, {}) - plain).abs().max())
    return Check("edits leave no trace", deviation, deviation == 0)


def _check_logits(network: Network, batch: Batch, plain: Tensor) -> Check:
    """The logits are the model's own: no cap, scale or layer is missing or added."""
    logits, expected = (x.float()[batch.mask] for x in (plain, network.own_logits(batch)))
    return _compare("logits are the model's own", network, logits, expected)


def _check_batching(network: Network, rows: list[Tokens], plain: Tensor) -> Check:
    """The shortest row has the same logits in the padded batch as alone."""
    place = min(range(len(rows)), key=lambda index: len(rows[index]))
    alone = network.logits(pad([rows[place]], network.pad_id).to(network.device), {})[0]
    together = plain[place, : len(rows[place])]
    return _compare("a batch equals one by one", network, together.float(), alone.float())


def _check_packing(network: Network, rows: list[Tokens]) -> Check:
    """Packed answers of one prompt, and packed prompts with a common start, score as in separate rows."""
    import torch

    start = rows[0].ids[:2]
    forks = [Fork(Tokens(start + row.ids[2:4], row.roles[:4]), (row.ids[4:], row.ids[:3])) for row in rows]
    packed = [value for group in network.fork_log_probs(forks, {}) for value in group]
    separate = [value for group in Network.fork_log_probs(network, forks, {}) for value in group]
    return _compare("packed answers equal separate rows", network, torch.cat(packed), torch.cat(separate))


def find_massive_tokens(network: Network, tokenizer: ChatTokenizer) -> tuple[MassiveToken, ...]:
    """Find the massive tokens of a question with its answer, and of a document, after every block.

    Args:
        network: runs without edits.
        tokenizer: of the same model.
    """
    from jinja2 import TemplateError

    rows = [tokenizer.text(DOCUMENT)]
    # a chat template that cannot be rendered is reported when a question is tokenised
    with suppress(TemplateError):
        rows.append(tokenizer.exchange(QUESTION, ANSWER))
    batch = pad(rows, network.pad_id).to(network.device)
    sites = [Site(layer, "resid_post") for layer in range(network.n_layers)]
    read = network.activations(batch, sites, {})
    layers_and_ratios: dict[tuple[str, int], list[tuple[int, float]]] = {}
    for site in sites:
        norms = read[site].float().norm(dim=-1)
        median = float(norms[batch.mask].median())
        for row, position in (is_massive(norms, batch.mask) & batch.mask).nonzero().tolist():
            key = (_as_text(tokenizer, rows[row], position), position)
            layers_and_ratios.setdefault(key, []).append((site.layer, float(norms[row, position]) / median))
    return tuple(
        MassiveToken(token, position, occurrences[0][0], occurrences[-1][0], max(r for _, r in occurrences))
        for (token, position), occurrences in layers_and_ratios.items()
    )


def _as_text(tokenizer: ChatTokenizer, row: Tokens, position: int) -> str:
    return str(tokenizer.hf.decode([row.ids[position]]))
