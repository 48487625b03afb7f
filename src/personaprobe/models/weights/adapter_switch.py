"""Switch LoRA adapters on one copy of the base weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakKeyDictionary

from personaprobe.models.weights.adapter import LoraAdapter, LowRank
from personaprobe.models.weights.adapter_fit import fit_adapter, is_conv1d

if TYPE_CHECKING:
    from torch import Tensor, nn


class AdapterSwitcher:
    """Switches adapters on one copy of the base weights.

    The original values of every matrix that an adapter ever changed are kept in the dtype of the file, so that removing
    the adapter restores the base bit for bit.

    Attributes:
        active: the adapter that is merged into the weights now; None for the base; ``"unknown"`` while switching, and
            after a switch that was cut short, until the next one.
    """

    def __init__(self, model: nn.Module, stored_dtype: Any) -> None:
        self._model = model
        self._stored_dtype = stored_dtype
        self._originals: dict[str, Tensor] = {}
        # matrices whose original values are their own memory still: the pages of the file
        self._unchanged: set[str] = set()
        self._modules: dict[str, Any] = {}
        # by module of this base, of adapters that fit it and that somebody still holds
        self._fitted: WeakKeyDictionary[LoraAdapter, dict[str, LowRank]] = WeakKeyDictionary()
        self.active: LoraAdapter | Literal["unknown"] | None = None

    def activate(self, adapter: LoraAdapter | None) -> None:
        """Merge an adapter into the base weights, or restore them for None; does nothing if it is active already.

        Cut short at any step, by an error or by Ctrl-C, it leaves weights that the next activation sets right: originals are
        saved before their matrix is first changed, and a matrix is always computed from its original.

        Raises:
            CheckpointError: the adapter was made for another base, or changes nothing.
        """
        if adapter == self.active:
            return
        updates = {} if adapter is None else self._updates(adapter)
        self.active = "unknown"
        for name in updates:
            if name not in self._originals:
                self._originals[name] = self._original(name)
        for name, original in self._originals.items():
            if name in updates:
                self._merge(name, original, updates[name])
            else:
                self._restore(name, original)
        self.active = adapter

    def _original(self, name: str) -> Tensor:
        """The values of a matrix before its first change, in the dtype of the file; in its own where that had more digits.

        On a CPU that is the matrix itself, where the file has its dtype: :meth:`_memory` sees to it that it is not changed.
        """
        import torch

        weight = self._parameter(name).detach()
        if weight.device.type == "cpu" and weight.dtype == self._stored_dtype:
            self._unchanged.add(name)
            return weight
        copy = weight.to(self._stored_dtype, copy=True)
        return copy if torch.equal(copy.to(weight.dtype), weight) else weight.clone()

    def _updates(self, adapter: LoraAdapter) -> dict[str, LowRank]:
        """Updates by module of this base, proven to fit it."""
        updates = self._fitted.get(adapter)
        if updates is None:
            updates = self._fitted[adapter] = fit_adapter(self._model, adapter).updates
        return updates

    def _merge(self, name: str, original: Tensor, update: LowRank) -> None:
        """Set a matrix to the sum of its original values and an update, rounded once."""
        import torch

        weight = self._memory(name, original)
        A, B = update.A.to(weight.device), update.B.to(weight.device)
        if self._is_transposed(name):
            A, B = B.T, A.T
        # in place: the product B @ A is never stored by itself
        if weight.dtype == torch.float32:
            weight.copy_(original).addmm_(B, A, alpha=update.scale)
        else:
            weight.copy_(original.to(torch.float32, copy=True).addmm_(B, A, alpha=update.scale))

    def _restore(self, name: str, original: Tensor) -> None:
        if name in self._unchanged:
            self._parameter(name).data = original
        else:
            self._parameter(name).data.copy_(original)

    def _memory(self, name: str, original: Tensor) -> Tensor:
        """The memory of a matrix, apart from that of its original values.

        Weights on a CPU are pages of their file at first. Writing over them would copy page by page: 1.07 s for the 269 MB
        of SmolLM2-135M, where filling fresh memory takes 0.10 s.
        """
        import torch

        parameter = self._parameter(name)
        if name in self._unchanged:
            parameter.data = torch.empty_like(original)
            self._unchanged.remove(name)  # not before: cut short between the two, it gets memory once more
        return parameter.data

    def _module(self, name: str) -> Any:
        """A module by its name; found once, since a look-up takes as long as copying a small matrix."""
        if name not in self._modules:
            self._modules[name] = self._model.get_submodule(name)
        return self._modules[name]

    def _parameter(self, name: str) -> nn.Parameter:
        parameter: nn.Parameter = self._module(name).weight
        return parameter

    def _is_transposed(self, name: str) -> bool:
        return is_conv1d(self._module(name))
