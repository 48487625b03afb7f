"""Switch LoRA adapters on one copy of the base weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from personaprobe.errors import CheckpointError
from personaprobe.models.weights.adapter import LoraAdapter, LowRank

if TYPE_CHECKING:
    from torch import Tensor, nn


class AdapterSwitcher:
    """Switches adapters on one copy of the base weights.

    The pristine values of every matrix ever adapted are kept, in the dtype they were stored in, so that taking an
    adapter off restores the base bit for bit.
    """

    def __init__(self, model: nn.Module, stored_dtype: Any) -> None:
        self._model = model
        self._stored_dtype = stored_dtype
        self._pristine: dict[str, Tensor] = {}
        self._modules: dict[str, Any] = {}
        self._fitting: set[str] = set()  # adapters proven to fit
        self.active: LoraAdapter | None = None

    def activate(self, adapter: LoraAdapter | None) -> None:
        """Merge ``adapter`` into pristine weights, or restore them; nothing happens when it is already active."""
        if adapter == self.active:
            return
        if adapter is not None and adapter.sha256 not in self._fitting:
            self._check(adapter)
            self._fitting.add(adapter.sha256)
        self.active = None
        updates = {} if adapter is None else adapter.updates
        for name in updates:
            if name not in self._pristine:
                self._pristine[name] = self._parameter(name).detach().to(self._stored_dtype, copy=True)
        for name, pristine in self._pristine.items():
            if name in updates:
                self._merge(name, pristine, updates[name])
            else:
                self._parameter(name).data.copy_(pristine)
        self.active = adapter

    def _merge(self, name: str, pristine: Tensor, update: LowRank) -> None:
        """Set a matrix to the sum of its pristine values and an update, which is rounded once."""
        import torch

        weight = self._parameter(name).data
        A, B = update.A.to(weight.device), update.B.to(weight.device)
        if self._is_transposed(name):
            A, B = B.T, A.T
        # in place: the update by itself is never written down
        if weight.dtype == torch.float32:
            weight.copy_(pristine).addmm_(B, A, alpha=update.scale)
        else:
            weight.copy_(pristine.to(torch.float32, copy=True).addmm_(B, A, alpha=update.scale))

    def _module(self, name: str) -> Any:
        """A module by its name; looking a name up takes as long as copying a small matrix."""
        if name not in self._modules:
            self._modules[name] = self._model.get_submodule(name)
        return self._modules[name]

    def _parameter(self, name: str) -> nn.Parameter:
        parameter: nn.Parameter = self._module(name).weight
        return parameter

    def _is_transposed(self, name: str) -> bool:
        """GPT-2 stores its linear maps as ``Conv1D``, input dimension first."""
        return type(self._module(name)).__name__ == "Conv1D"

    def _check(self, adapter: LoraAdapter) -> None:
        """Prove that every tensor has a place, and that the update is not nothing."""
        for name, update in adapter.updates.items():
            try:
                shape = tuple(self._parameter(name).shape)
            except AttributeError as error:
                raise CheckpointError(_stranger(adapter, f"the base has no module {name!r}")) from error
            if self._is_transposed(name):
                shape = shape[::-1]
            wanted = (update.B.shape[0], update.A.shape[1])
            if shape != wanted:
                raise CheckpointError(
                    _stranger(adapter, f"{name} is {shape} in the base and {wanted} in the adapter")
                )
        if adapter.norm() == 0:
            raise CheckpointError(
                f"adapter {adapter.folder} changes nothing (‖ΔW‖ = 0): its B matrices are zero; it was saved untrained"
            )


def _stranger(adapter: LoraAdapter, why: str) -> str:
    return f"adapter {adapter.folder} was made for another base: {why}; give the base it was trained on"
