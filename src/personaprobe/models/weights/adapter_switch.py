"""Switch LoRA adapters on one copy of the base weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from personaprobe.errors import CheckpointError
from personaprobe.models.weights.adapter import LoraAdapter, LowRank

if TYPE_CHECKING:
    from torch import Tensor, nn


class AdapterSwitcher:
    """Switches adapters on one copy of the base weights.

    The original values of every matrix that an adapter ever changed are kept in the dtype of the file, so that removing
    the adapter restores the base bit for bit.

    Attributes:
        active: the adapter that is merged into the weights now; None for the base.
    """

    def __init__(self, model: nn.Module, stored_dtype: Any) -> None:
        self._model = model
        self._stored_dtype = stored_dtype
        self._originals: dict[str, Tensor] = {}
        self._modules: dict[str, Any] = {}
        self._checked: set[str] = set()  # sha256 of adapters that fit the base
        self.active: LoraAdapter | None = None

    def activate(self, adapter: LoraAdapter | None) -> None:
        """Merge an adapter into the base weights, or restore them for None; does nothing if it is active already.

        Raises:
            CheckpointError: the adapter was made for another base, or changes nothing.
        """
        if adapter == self.active:
            return
        if adapter is not None and adapter.sha256 not in self._checked:
            self._check(adapter)
            self._checked.add(adapter.sha256)
        self.active = None
        updates = {} if adapter is None else adapter.updates
        for name in updates:
            if name not in self._originals:
                self._originals[name] = self._parameter(name).detach().to(self._stored_dtype, copy=True)
        for name, original in self._originals.items():
            if name in updates:
                self._merge(name, original, updates[name])
            else:
                self._parameter(name).data.copy_(original)
        self.active = adapter

    def _merge(self, name: str, original: Tensor, update: LowRank) -> None:
        """Set a matrix to the sum of its original values and an update, rounded once."""
        import torch

        weight = self._parameter(name).data
        A, B = update.A.to(weight.device), update.B.to(weight.device)
        if self._is_transposed(name):
            A, B = B.T, A.T
        # in place: the product B @ A is never stored by itself
        if weight.dtype == torch.float32:
            weight.copy_(original).addmm_(B, A, alpha=update.scale)
        else:
            weight.copy_(original.to(torch.float32, copy=True).addmm_(B, A, alpha=update.scale))

    def _module(self, name: str) -> Any:
        """A module by its name; found once, since a look-up takes as long as copying a small matrix."""
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
        """Raise unless every tensor fits a matrix of the base and the update is not zero."""
        for name, update in adapter.updates.items():
            try:
                shape = tuple(self._parameter(name).shape)
            except AttributeError as error:
                raise CheckpointError(_other_base(adapter, f"the base has no module {name!r}")) from error
            if self._is_transposed(name):
                shape = shape[::-1]
            expected = (update.B.shape[0], update.A.shape[1])
            if shape != expected:
                raise CheckpointError(
                    _other_base(adapter, f"{name} is {shape} in the base and {expected} in the adapter")
                )
        if adapter.norm() == 0:
            raise CheckpointError(
                f"adapter {adapter.folder} changes nothing (‖ΔW‖ = 0): its B matrices are zero; it was saved untrained"
            )


def _other_base(adapter: LoraAdapter, why: str) -> str:
    return f"adapter {adapter.folder} was made for another base: {why}; give the base it was trained on"
