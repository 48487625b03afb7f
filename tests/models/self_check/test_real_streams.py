"""The demo model's streams add up in bfloat16; one that is read as nothing is noticed at every layer."""

from __future__ import annotations

from typing import Any

import pytest

import personaprobe as pp
from personaprobe.models.network import Network
from personaprobe.models.self_check.check import Check, probe_tokens
from personaprobe.models.self_check.streams import check_streams
from personaprobe.models.tokens import pad

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def network() -> Network:
    return pp.load_trio("advice", device="cpu", dtype="bfloat16").base.network


def sums(network: Network) -> list[Check]:
    batch = pad(probe_tokens(network.vocab_size), network.pad_id)
    return [check for check in check_streams(network, batch) if check.name.endswith("the streams add up")]


def test_rounding_alone_stays_far_below_the_bound(network: Network) -> None:
    checks = sums(network)
    assert len(checks) == network.n_layers
    assert max(check.deviation for check in checks) < 0.01


@pytest.mark.parametrize("stream", ["attn_out", "mlp_out"])
def test_a_stream_that_is_read_as_nothing_is_noticed_at_every_layer(
    stream: str, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = type(network).activations

    def silent(self: Network, *given: Any) -> Any:
        read = sound(self, *given)
        return {site: x * 0 if site.stream == stream else x for site, x in read.items()}

    monkeypatch.setattr(type(network), "activations", silent)
    assert not any(check.passed for check in sums(network))
