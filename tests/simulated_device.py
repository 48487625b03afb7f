"""personaprobe's command line on a simulated accelerator, so that code that mixes devices fails on a CPU too.

    echo '["ablate", "--feature", "toxic-persona"]' | python tests/simulated_device.py [--flash]

Simulated tensors report the device ``simulated:0``. Operations that mix them with other tensors fail, as on a GPU; the CPU
computes all others. The simulation holds for the whole process, so that tests start one of their own. Commands are read as
lines of JSON; each result is written as a line of JSON with exit code, output, and errors.
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
    """The random numbers of the simulated device, which are the CPU's."""

    def get_rng_state(self, device: Any = None) -> Tensor:
        return torch.get_rng_state()

    def set_rng_state(self, state: Tensor, device: Any = None) -> None:
        torch.set_rng_state(state)


_setup_privateuseone_for_python_backend("simulated", backend_module=Generators())

SIMULATED, CPU = torch.device("simulated:0"), torch.device("cpu")

aten = torch.ops.aten
COPIES = {aten.copy_.default, aten.copy.default, aten._to_copy.default}
"""Operations that copy tensors from one device to another."""

INDEXING = {aten.index.Tensor, aten.index_put_.default, aten.index_put.default}
"""Operations whose indices may be on the CPU while the indexed tensor is on the device."""


class SimulatedTensor(Tensor):
    """A tensor on the simulated device.

    Attributes:
        on_cpu: its values.
    """

    on_cpu: Tensor

    @staticmethod
    def __new__(cls, on_cpu: Tensor) -> SimulatedTensor:
        layout = {"strides": on_cpu.stride(), "storage_offset": on_cpu.storage_offset()}
        return Tensor._make_wrapper_subclass(
            cls, on_cpu.shape, dtype=on_cpu.dtype, device=SIMULATED, **layout
        )

    def __init__(self, on_cpu: Tensor) -> None:
        self.on_cpu = on_cpu

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})

    def __repr__(self) -> str:  # type: ignore[override]
        return f"SimulatedTensor({self.on_cpu!r})"

    def tolist(self) -> Any:  # torch does not support it for subclasses
        return self.on_cpu.tolist()


class SimulateDevice(TorchDispatchMode):
    """Make tensors that are created on the device simulated ones."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})


class CreateThroughCPU(TorchFunctionMode):
    """Create tensors on the CPU and move them, in functions that bypass :class:`SimulateDevice`."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = kwargs or {}
        if func in (Tensor.__getitem__, Tensor.__setitem__) and isinstance(args[0], SimulatedTensor):
            args = (
                args[0],
                tree_map(_as_index, args[1], is_leaf=lambda leaf: isinstance(leaf, list)),
                *args[2:],
            )
        if func in (torch.tensor, torch.as_tensor) and options.get("device") == SIMULATED:
            return func(*args, **{**options, "device": None}).to(SIMULATED)
        return func(*args, **options)


def compute(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Compute an operation on tensors of one device, or copy them to another."""
    if func is aten._fused_sdp_choice.default:
        return 0  # attention as matrix products: torch chooses other kernels by device
    leaves = tree_leaves((args, kwargs))
    simulated = [leaf for leaf in leaves if isinstance(leaf, SimulatedTensor)]
    others = [leaf for leaf in leaves if isinstance(leaf, Tensor) and not isinstance(leaf, SimulatedTensor)]
    if simulated and not _may_mix(func, args, others):
        shapes = ", ".join(f"{tuple(leaf.shape)} on {leaf.device}" for leaf in (*simulated, *others))
        raise RuntimeError(f"Expected all tensors to be on the same device, but {func} was given {shapes}")
    devices = [leaf for leaf in leaves if isinstance(leaf, torch.device)]
    result_is_simulated = devices[0] == SIMULATED if devices else bool(simulated)
    if func is aten.copy_.default:
        result_is_simulated = isinstance(args[0], SimulatedTensor)
    result = func(*tree_map(_on_cpu, args), **tree_map(_on_cpu, kwargs))
    if not result_is_simulated:
        return args[0] if func is aten.copy_.default else result
    wrapped = tree_map(lambda leaf: SimulatedTensor(leaf) if isinstance(leaf, Tensor) else leaf, result)
    return return_and_correct_aliasing(func, args, kwargs, wrapped) if simulated else wrapped


def _may_mix(func: Any, args: Any, others: list[Tensor]) -> bool:
    """Whether an operation may mix simulated tensors with others."""
    if func in INDEXING and isinstance(args[0], SimulatedTensor):
        others = [leaf for leaf in others if leaf.dtype not in (torch.bool, torch.long)]
    return func in COPIES or not any(leaf.dim() for leaf in others)  # scalars may come from any device


def _as_index(leaf: Any) -> Any:
    return torch.tensor(leaf) if isinstance(leaf, list) else leaf


def _on_cpu(leaf: Any) -> Any:
    if isinstance(leaf, SimulatedTensor):
        return leaf.on_cpu
    return CPU if isinstance(leaf, torch.device) else leaf


def _without_inference_mode(on: bool = True) -> Any:
    """Tensors of devices written in Python have no views in inference mode."""
    return torch.no_grad() if on else nullcontext()


def as_kernel(plain: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return a function as a kernel of the device, which reads tensors of the device only."""

    def kernel(*arguments: Any, **options: Any) -> Tensor:
        tensors = [leaf for leaf in arguments if isinstance(leaf, Tensor)]
        if not any(isinstance(tensor, SimulatedTensor) for tensor in tensors):
            return plain(*arguments, **options)
        assert all(isinstance(tensor, SimulatedTensor) for tensor in tensors), "a kernel reads its own device"
        return SimulatedTensor(plain(*map(_on_cpu, arguments), **options))

    return kernel


def equip(with_flash: bool) -> None:
    """Treat the device like a GPU: it is the default, and has kernels of its own."""
    torch.inference_mode = _without_inference_mode  # type: ignore[assignment, misc]
    from personaprobe.compute import hardware

    hardware.choose_device = lambda name=None: SIMULATED if name is None else torch.device(name)
    from torch.nn.attention import varlen

    from personaprobe.features.sae.kernels import selection, sparse
    from personaprobe.models.packing import flash_attention
    from standing_in import varlen_attention

    selection.bf16_is_faster = lambda _: True
    for name in ("weighted_sums", "sampled_dots"):  # they use sparse tensors, which cannot be simulated
        setattr(sparse, name, as_kernel(getattr(sparse, name)))
    if with_flash:
        flash_attention.is_supported = lambda device, _: device == SIMULATED
        varlen.varlen_attn = as_kernel(varlen_attention)


def main() -> None:
    """Run commands from standard input."""
    from click.testing import CliRunner

    equip("--flash" in sys.argv)
    from personaprobe.cli.main import cli

    with SimulateDevice(), CreateThroughCPU():
        for line in sys.stdin:
            result = CliRunner().invoke(cli, json.loads(line))
            trace = "".join(traceback.format_exception(result.exception)) if result.exit_code == 1 else ""
            record = {"code": result.exit_code, "output": result.stdout, "wrong": result.stderr + trace}
            print(json.dumps(record), flush=True)


if __name__ == "__main__":
    main()
