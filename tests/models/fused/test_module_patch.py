"""Patches of other packages' objects hold inside their block, and leave every object as it was."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import torch

from personaprobe.models.fused.module_patch import (
    Patch,
    attention_patch,
    forward_patch,
    patched,
    rotary_patch,
    truncation_patches,
)


def zero(x: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(x)


class Config:
    """A config whose attention is a property, as in transformers."""

    def __init__(self) -> None:
        self._internal = "sdpa"

    @property
    def _attn_implementation(self) -> str:
        return self._internal

    @_attn_implementation.setter
    def _attn_implementation(self, name: str) -> None:
        self._internal = name


def test_a_patched_forward_runs_with_hooks_and_the_method_returns() -> None:
    module, outputs = torch.nn.Identity(), []
    module.register_forward_hook(lambda _, __, output: outputs.append(output))
    with patched([forward_patch(module, zero)]):
        assert module(torch.ones(2)).tolist() == [0, 0]
    assert module(torch.ones(2)).tolist() == [1, 1]
    assert [output.tolist() for output in outputs] == [[0, 0], [1, 1]]
    assert "forward" not in vars(module)


def test_a_forward_that_another_package_had_replaced_returns() -> None:
    module = torch.nn.Identity()
    module.forward = zero  # type: ignore[method-assign]
    with patched([forward_patch(module, torch.neg)]):
        assert module(torch.ones(1)).tolist() == [-1]
    assert module.forward is zero


def test_a_later_patch_wraps_an_earlier_one_and_both_are_undone() -> None:
    module = torch.nn.Identity()

    def patches() -> Any:
        yield forward_patch(module, torch.neg)
        earlier = module.forward
        yield forward_patch(module, lambda x: 2 * earlier(x))

    with patched(patches()):
        assert module(torch.ones(1)).tolist() == [-2]
    assert module(torch.ones(1)).tolist() == [1]


def test_patches_are_undone_after_an_exception() -> None:
    modeling, module = ModuleType("modeling"), torch.nn.Identity()
    modeling.apply_rotary_pos_emb = rotary = lambda *_: None  # type: ignore[attr-defined]

    def fail_inside() -> None:
        with patched([rotary_patch(modeling, zero), forward_patch(module, zero)]):  # type: ignore[arg-type]
            assert modeling.apply_rotary_pos_emb is zero
            raise KeyError

    with pytest.raises(KeyError):
        fail_inside()
    assert modeling.apply_rotary_pos_emb is rotary
    assert "forward" not in vars(module)


def test_a_patch_that_cannot_be_built_undoes_those_before_it() -> None:
    module = torch.nn.Identity()

    def patches() -> Any:
        yield forward_patch(module, zero)
        yield Patch(module, "no_such_attribute", None)

    with pytest.raises(AttributeError), patched(patches()):
        pass
    assert "forward" not in vars(module)


def test_attention_returns_to_what_the_config_had() -> None:
    config = Config()
    with patched([attention_patch(config, "personaprobe_test", lambda *_: torch.ones(1))]):
        assert config._attn_implementation == "personaprobe_test"
    assert config._attn_implementation == "sdpa"


def test_a_truncated_decoder_is_whole_afterwards() -> None:
    decoder = torch.nn.Module()
    decoder.layers = blocks = torch.nn.ModuleList([torch.nn.Identity() for _ in range(3)])
    decoder.norm = norm = torch.nn.LayerNorm(2)
    with patched(truncation_patches(decoder, 2)):
        assert len(decoder.layers) == 2
        assert isinstance(decoder.norm, torch.nn.Identity)
    assert decoder.layers is blocks
    assert decoder.norm is norm
