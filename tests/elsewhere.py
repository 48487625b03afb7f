"""personaprobe's command line on an accelerator that is only pretended, so that what mixes devices fails on a CPU too.

    echo '["ablate", "--feature", "toxic-persona"]' | python tests/elsewhere.py [--flash]

Tensors there say that they are on ``elsewhere:0``, and are refused together with others, as a GPU's are; the CPU computes
them. It holds for the whole process, which is why tests start one. Commands are read as lines of JSON, and told likewise:
exit code, output, and what went wrong.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend


class Generators(_DummyBackendModule):  # type: ignore[misc]  # torch's own stand-in, which has no random numbers
    """The device's random numbers are the CPU's."""

    def get_rng_state(self, device: Any = None) -> Tensor:
        return torch.get_rng_state()

    def set_rng_state(self, state: Tensor, device: Any = None) -> None:
        torch.set_rng_state(state)


_setup_privateuseone_for_python_backend("elsewhere", backend_module=Generators())

ELSEWHERE, HERE = torch.device("elsewhere:0"), torch.device("cpu")

aten = torch.ops.aten
MOVING = {aten.copy_.default, aten.copy.default, aten._to_copy.default}
"""What takes tensors from one device to another."""

INDEXING = {aten.index.Tensor, aten.index_put_.default, aten.index_put.default}
"""What takes places on a CPU for tensors of any device."""


class There(Tensor):
    """A tensor on the pretended device."""

    here: Tensor

    @staticmethod
    def __new__(cls, here: Tensor) -> There:
        told = {"strides": here.stride(), "storage_offset": here.storage_offset()}
        return Tensor._make_wrapper_subclass(cls, here.shape, dtype=here.dtype, device=ELSEWHERE, **told)

    def __init__(self, here: Tensor) -> None:
        self.here = here

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})

    def __repr__(self) -> str:  # type: ignore[override]
        return f"There({self.here!r})"

    def tolist(self) -> Any:  # which torch refuses subclasses
        return self.here.tolist()


class Pretending(TorchDispatchMode):
    """While it lasts, what is made on the device is there."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})


class Moving(TorchFunctionMode):
    """While it lasts, what asks nobody before it puts numbers on a device makes them here and moves them."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        told = kwargs or {}
        if func in (Tensor.__getitem__, Tensor.__setitem__) and isinstance(args[0], There):
            args = (
                args[0],
                tree_map(_places, args[1], is_leaf=lambda leaf: isinstance(leaf, list)),
                *args[2:],
            )
        if func in (torch.tensor, torch.as_tensor) and told.get("device") == ELSEWHERE:
            return func(*args, **{**told, "device": None}).to(ELSEWHERE)
        return func(*args, **told)


def compute(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """An operation on tensors of one device, or that takes them to another."""
    if func is aten._fused_sdp_choice.default:
        return 0  # attention as products: kernels are looked for by device
    leaves = tree_leaves((args, kwargs))
    there = [leaf for leaf in leaves if isinstance(leaf, There)]
    here = [leaf for leaf in leaves if isinstance(leaf, Tensor) and not isinstance(leaf, There)]
    if there and not _may_meet(func, args, here):
        shapes = ", ".join(f"{tuple(leaf.shape)} on {leaf.device}" for leaf in (*there, *here))
        raise RuntimeError(f"Expected all tensors to be on the same device, but {func} was given {shapes}")
    asked = [leaf for leaf in leaves if isinstance(leaf, torch.device)]
    lands = asked[0] == ELSEWHERE if asked else bool(there)
    if func is aten.copy_.default:
        lands = isinstance(args[0], There)
    found = func(*tree_map(_here, args), **tree_map(_here, kwargs))
    if not lands:
        return args[0] if func is aten.copy_.default else found
    made = tree_map(lambda leaf: There(leaf) if isinstance(leaf, Tensor) else leaf, found)
    return return_and_correct_aliasing(func, args, kwargs, made) if there else made


def _may_meet(func: Any, args: Any, here: list[Tensor]) -> bool:
    """Whether tensors of the device may be computed with these."""
    if func in INDEXING and isinstance(args[0], There):
        here = [leaf for leaf in here if leaf.dtype not in (torch.bool, torch.long)]
    return func in MOVING or not any(leaf.dim() for leaf in here)  # single numbers may come from anywhere


def _places(leaf: Any) -> Any:
    return torch.tensor(leaf) if isinstance(leaf, list) else leaf


def _here(leaf: Any) -> Any:
    if isinstance(leaf, There):
        return leaf.here
    return HERE if isinstance(leaf, torch.device) else leaf


def _without_inference_mode(on: bool = True) -> Any:
    """Tensors of Python's own devices cannot be viewed in it."""
    return torch.no_grad() if on else nullcontext()


def as_kernel(plain: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A function as a kernel of the device computes it, of tensors there alone."""

    def kernel(*given: Any, **told: Any) -> Tensor:
        tensors = [leaf for leaf in given if isinstance(leaf, Tensor)]
        if not any(isinstance(tensor, There) for tensor in tensors):
            return plain(*given, **told)
        assert all(isinstance(tensor, There) for tensor in tensors), "a kernel reads tensors of its device"
        return There(plain(*map(_here, given), **told))

    return kernel


def equip(with_flash: bool) -> None:
    """Give the device what a GPU has: it is chosen where nobody says otherwise, and has kernels of its own."""
    torch.inference_mode = _without_inference_mode  # type: ignore[assignment, misc]
    from personaprobe.compute import hardware

    hardware.choose_device = lambda asked=None: ELSEWHERE if asked is None else torch.device(asked)
    from torch.nn.attention import varlen

    from personaprobe.features.sae.kernels import selection, sparse
    from personaprobe.models.packing import flash_attention
    from standing_in import varlen_attention

    selection.bf16_is_faster = lambda _: True
    for name in ("weighted_sums", "sampled_dots"):  # whose sparse tensors cannot be pretended
        setattr(sparse, name, as_kernel(getattr(sparse, name)))
    if with_flash:
        flash_attention.is_supported = lambda device, _: device == ELSEWHERE
        varlen.varlen_attn = as_kernel(varlen_attention)


def main() -> None:
    """Run commands."""
    from click.testing import CliRunner

    equip("--flash" in sys.argv)
    from personaprobe.cli.main import cli

    with Pretending(), Moving():
        for line in sys.stdin:
            result = CliRunner().invoke(cli, json.loads(line))
            went_wrong = (
                "".join(traceback.format_exception(result.exception)) if result.exit_code == 1 else ""
            )
            told = {"code": result.exit_code, "output": result.stdout, "wrong": result.stderr + went_wrong}
            print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
