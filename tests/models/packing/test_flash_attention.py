"""Attention of a whole row in one call equals attention segment by segment.

No GPU is needed: a kernel that follows PyTorch's documentation stands in for the flash kernel, and PyTorch checks its
arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention import varlen as library

from personaprobe.models.backends.hugging_face import HuggingFaceNetwork
from personaprobe.models.network import Fork
from personaprobe.models.packing import flash_attention, segment_attention
from personaprobe.models.packing.flash_attention import VarlenBounds, varlen_attention
from personaprobe.models.packing.segments import Segment
from personaprobe.models.tokens import Role, Tokens, pad
from personaprobe.site import Site
from standing_in import varlen_attention as kernel

APART = (Segment(0, 4), Segment(4, 9), Segment(9, 10), Segment(10, 13))
FORKED = (
    Segment(0, 4),
    Segment(4, 9, (slice(0, 4),)),
    Segment(9, 10, (slice(0, 4), slice(4, 9))),
    Segment(10, 13, (slice(0, 4), slice(4, 9))),
)


@pytest.fixture
def on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., Tensor]], None]:
    """Make packed rows attend by a given kernel, as they do on a GPU."""

    def use(kernel: Callable[..., Tensor]) -> None:
        monkeypatch.setattr(library, "varlen_attn", kernel)
        monkeypatch.setattr(flash_attention, "is_supported", lambda *_: True)
        segment_attention._varlen_kernel.cache_clear()

    yield use  # type: ignore[misc]
    segment_attention._varlen_kernel.cache_clear()


def states(n: int, heads: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(1, n, count, 8, generator=draw).transpose(1, 2)
        for count in (heads[0], heads[1], heads[1])
    )
    return query, key, value


@pytest.mark.parametrize("heads", [(4, 4), (6, 2)])
@pytest.mark.parametrize("n", [13, 16], ids=["full", "filled up"])
@pytest.mark.parametrize("segments", [APART, FORKED], ids=["apart", "forked"])
def test_one_call_equals_attention_per_segment(
    segments: Sequence[Segment], n: int, heads: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "varlen_attn", kernel)
    query, key, value = states(n, heads)
    row = segment_attention._PackedRow(segments, n, torch.device("cpu"))
    expected = segment_attention.attention_per_segment(query, key, value, 0.3, row)
    result = varlen_attention(query, key, value, 0.3, row.bounds, row.end)
    torch.testing.assert_close(result, expected)


@pytest.mark.parametrize("segments", [APART, FORKED], ids=["apart", "forked"])
def test_torch_accepts_the_arguments(segments: Sequence[Segment]) -> None:
    """PyTorch checks shapes and dtypes of its operation without a GPU."""
    bounds = VarlenBounds.of(segments, torch.device("meta"))
    query, key, value = (part.to("meta", torch.bfloat16) for part in states(16, (6, 2)))
    result = varlen_attention(query, key, value, None, bounds, 13)
    assert result.shape == (1, 16, 6, 8)
    assert result.dtype == torch.bfloat16


def test_keys_are_copied_only_where_segments_have_prefixes() -> None:
    assert VarlenBounds.of(APART, torch.device("cpu")).key_index is None
    bounds = VarlenBounds.of(FORKED, torch.device("cpu"))
    assert bounds.key_index is not None
    assert bounds.key_index.tolist() == [*range(4), *range(9), *range(10), *range(9), 10, 11, 12]
    assert bounds.queries.tolist() == [0, 4, 9, 10, 13]
    assert bounds.keys.tolist() == [0, 4, 13, 23, 35]
    assert bounds.max_lengths == (5, 12)


def texts(*lengths: int) -> list[Tokens]:
    prompt = int(Role.PROMPT | Role.LAST_PROMPT)
    return [Tokens(tuple(range(3, 3 + n)), (prompt, *(int(Role.RESPONSE),) * (n - 1))) for n in lengths]


def test_networks_compute_the_same_by_one_call(
    reference: HuggingFaceNetwork, on_a_gpu: Callable[[Callable[..., Tensor]], None]
) -> None:
    calls: list[int] = []

    def counted(*arguments: Any, **options: Any) -> Tensor:
        calls.append(len(arguments[0]))
        return kernel(*arguments, **options)

    batch, site = pad(texts(7, 3, 9), 0), Site(1)
    prompt = Tokens((5, 6, 7), (1, 1, int(Role.PROMPT | Role.LAST_PROMPT)))
    forks = [Fork(prompt, ((9, 10, 11), (12, 13))), Fork(prompt, ((40, 41),))]
    expected, scored = reference.activations(batch, [site], {})[site], reference.fork_log_probs(forks, {})
    on_a_gpu(counted)
    result, again = reference.activations(batch, [site], {})[site], reference.fork_log_probs(forks, {})
    torch.testing.assert_close(result[batch.mask], expected[batch.mask], atol=1e-4, rtol=1e-4)
    for one, other in zip(chain(*again), chain(*scored), strict=True):
        torch.testing.assert_close(one, other, atol=2e-4, rtol=0)
    assert bool(calls) == reference.packs


@pytest.mark.parametrize("fault", ["fails", "is wrong"])
def test_a_kernel_that_fails_or_is_wrong_is_warned_of_and_not_used(
    tiny_model: Callable[..., Any],
    fault: str,
    on_a_gpu: Callable[[Callable[..., Tensor]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from personaprobe.models.loading import wrap

    network, batch, site = wrap(tiny_model("llama"), 0), pad(texts(7, 3, 9), 0), Site(1)
    expected = network.activations(batch, [site], {})[site]

    def faulty(query: Tensor, *arguments: Any, **options: Any) -> Tensor:
        if fault == "fails":
            raise RuntimeError("FlashAttention only supports Ampere GPUs or newer")
        return kernel(query, *arguments, **options).roll(1, 0)

    on_a_gpu(faulty)
    with pytest.warns(UserWarning, match="without flash attention"):
        result = network.activations(batch, [site], {})[site]
    torch.testing.assert_close(result[batch.mask], expected[batch.mask])
    assert not segment_attention.supports_varlen(torch.device("cuda"), torch.bfloat16)
    monkeypatch.setattr(network, "device", torch.device("cuda"))
    assert not network.packs  # so that the next batch is padded


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")
def test_flash_kernels_equal_attention_per_segment() -> None:
    for segments in (APART, FORKED):
        device = torch.device("cuda")
        query, key, value = (part.to(device, torch.bfloat16) for part in states(16, (6, 2)))
        row = segment_attention._PackedRow(segments, 16, device)
        result = varlen_attention(query, key, value, None, row.bounds, row.end)
        torch.testing.assert_close(
            result,
            segment_attention.attention_per_segment(query, key, value, None, row),
            atol=0.02,
            rtol=0.02,
        )
