"""Checks that every stream is read and edited where the layer map says, on the model itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from personaprobe.models.network import Network
from personaprobe.models.self_check.check import Check, compare
from personaprobe.models.tokens import ROLE_BITS, Batch, Tokens, pad, with_text_ids
from personaprobe.site import Site

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


def check_streams(network: Network, batch: Batch) -> Iterator[Check]:
    """The streams must add up: a block's output is the next one's input, and the sum of what was added."""
    sites = [Site(layer, stream) for layer in range(network.n_layers) for stream in network.streams]
    read = {site: x.float()[batch.mask] for site, x in network.activations(batch, sites, {}).items()}
    for layer in range(network.n_layers):
        at = {stream: read[Site(layer, stream)] for stream in network.streams}
        terms = [at["resid_pre"], at["attn_out"], at["mlp_out"]]
        yield _equal(f"layer {layer}: the streams add up", network, terms, at["resid_post"])
        if "resid_mid" in at:
            yield _equal(f"layer {layer}: resid_mid is read", network, terms[:2], at["resid_mid"])
        if layer + 1 < network.n_layers:
            following = read[Site(layer + 1, "resid_pre")]
            yield _equal(
                f"layer {layer}: its output is the next input", network, [at["resid_post"]], following
            )


def _equal(
    name: str, network: Network, terms: Sequence[Float[Tensor, "token d"]], total: Float[Tensor, "token d"]
) -> Check:
    """Compare a sum of activations with the model's own, token by token: massive tokens would hide differences at others.

    The model rounds on the way, by a part of the largest number that it adds; terms that cancel leave less than that.
    """
    import torch

    largest = torch.stack([total, *terms]).abs().amax(0)
    scale = largest.amax(-1, keepdim=True).clamp_min(1e-6)
    deviation = float(((sum(terms) - total).abs() / scale).max())
    return Check(name, deviation, deviation <= (1e-5 if network.dtype == torch.float32 else 0.02))


def check_edits(network: Network, row: Tokens, layers: Sequence[int]) -> Iterator[Check]:
    """A vector added to a stream must arrive completely in the residual stream after it, at each of some layers."""
    for layer in layers:
        yield from _check_edits_at(network, row, layer)


def _check_edits_at(network: Network, row: Tokens, layer: int) -> Iterator[Check]:
    """The same at one layer.

    One pass reads two copies of the row per stream: a vector is added to the first and 1 to the second. Edits select the
    tokens of a copy by its text id, wherever packing puts them.
    """
    import torch

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
        yield compare(f"{site} is written", network, change, shifts[site].float().expand_as(change))
        effect = float((edited[after] - plain[after])[2 * index + 1].abs().max())
        yield Check(f"writing {site} reaches {after}", effect, effect > 0.5)


def _shifted(text_id: int, shift: Tensor | int, activations: Tensor, roles: Tensor) -> Tensor:
    """Add a shift to the activations of one text's tokens."""
    return activations + (roles >> ROLE_BITS == text_id)[..., None].to(activations.dtype) * shift


def check_restored(network: Network, batch: Batch, plain: Tensor) -> Iterator[Check]:
    """After an edited pass, the unedited model computes bitwise what it did before."""
    network.logits(batch, {Site(0, "resid_post"): [lambda x, _: x * 2]})
    deviation = float((network.logits(batch, {}) - plain).abs().max())
    yield Check("edits leave no trace", deviation, deviation == 0)


def check_logits(network: Network, batch: Batch, plain: Tensor) -> Iterator[Check]:
    """The logits are the model's own: no cap, scale or layer is missing or added."""
    logits, expected = (x.float()[batch.mask] for x in (plain, network.own_logits(batch)))
    yield compare("logits are the model's own", network, logits, expected)
