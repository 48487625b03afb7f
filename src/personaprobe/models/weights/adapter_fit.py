"""An adapter put on a base: its modules looked up, and proven to be those that PEFT would change there."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from personaprobe.errors import CheckpointError, CheckpointWarning
from personaprobe.models.weights.adapter import LoraAdapter, LowRank
from personaprobe.models.weights.adapter_config import MERGE
from personaprobe.models.weights.adapter_names import PEFT_PREFIX

if TYPE_CHECKING:
    from torch import nn


def fit_adapter(model: nn.Module, adapter: LoraAdapter) -> LoraAdapter:
    """The adapter with the names, ranks and scales that it has on a Hugging Face model.

    Raises:
        CheckpointError: a matrix does not fit, or would not be changed by PEFT, or is shared by two modules; or the update
            is zero.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    fitted = adapter.on(modules)
    for name, update in fitted.updates.items():
        _refuse_other_shape(adapter, name, modules[name], update)
    _refuse_shared(model, fitted)
    _refuse_unselected(model, fitted)
    if fitted.norm() == 0:
        raise CheckpointError(
            f"adapter {adapter.folder} changes nothing (‖ΔW‖ = 0): its B matrices are zero; it was saved untrained"
        )
    if fitted.renamed:
        module, name = next(iter(fitted.written_names.items()))
        warnings.warn(
            f"adapter {adapter.folder} has other names than PEFT writes: {name!r} is read as {module!r} of this base",
            CheckpointWarning,
            stacklevel=2,
        )
    return fitted


def is_conv1d(module: Any) -> bool:
    """Whether a linear map is stored input dimension first, as GPT-2 does."""
    return type(module).__name__ == "Conv1D"


def _is_linear(module: Any) -> bool:
    from torch import nn

    return isinstance(module, nn.Linear) or is_conv1d(module)


def _refuse_other_shape(adapter: LoraAdapter, name: str, module: Any, update: LowRank) -> None:
    from torch import nn

    if isinstance(module, nn.Embedding):
        raise CheckpointError(
            f"adapter {adapter.folder} changes the vocabulary ({name}); only LoRA factors of linear maps are "
            f"supported: {MERGE}"
        )
    if not _is_linear(module):
        raise CheckpointError(
            f"adapter {adapter.folder} was made for another base: {name} is a {type(module).__name__} in the base, and "
            "adapters change linear maps; give the base it was trained on"
        )
    shape = tuple(module.weight.shape)
    expected = (update.B.shape[0], update.A.shape[1])
    if (shape[::-1] if is_conv1d(module) else shape) != expected:
        raise CheckpointError(
            f"adapter {adapter.folder} was made for another base: {name} is {shape} in the base and {expected} in the "
            "adapter; give the base it was trained on"
        )


def _refuse_shared(model: nn.Module, adapter: LoraAdapter) -> None:
    """Raise where a matrix belongs to two modules: the merged update would change both, and PEFT changes one."""
    owners: dict[int, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if (weight := module._parameters.get("weight")) is not None:
            owners.setdefault(id(weight), []).append(name)
    for name in adapter.updates:
        others = [other for other in owners[id(model.get_submodule(name).weight)] if other != name]
        if others:
            raise CheckpointError(
                f"adapter {adapter.folder} changes {name}, which shares its matrix with {others[0]} in this base, so that "
                "merging would change both; untie them: load the base with tie_word_embeddings=False and a copy of the "
                "matrix, merge the adapter there with PEFT, and give the merged folder"
            )


def _refuse_unselected(model: Any, adapter: LoraAdapter) -> None:
    """Raise where PEFT would leave out a module of the file, or would start one at random that the file lacks."""
    if adapter.config is None:
        return
    head = model.get_output_embeddings()
    selecting = adapter.config.modules
    for module, written in adapter.written_names.items():
        names = (module, written.removeprefix(PEFT_PREFIX))
        is_head = model.get_submodule(module) is head
        if not any(selecting.select(name, is_head=is_head) for name in names):
            raise CheckpointError(
                f"{adapter.config.path} does not select {module}, whose factors are in the weights file, so that PEFT would "
                "leave it out; correct target_modules, exclude_modules, layers_to_transform and layers_pattern, or save the "
                "adapter again"
            )
    if adapter.config.starts_at_zero:
        return
    for name, module in model.named_modules():
        selected = _is_linear(module) and selecting.select(name, is_head=module is head)
        if selected and name not in adapter.updates:
            raise CheckpointError(
                f"{adapter.config.path} selects {name}, which has no factors in the weights file, and its "
                "init_lora_weights false makes them random; save the adapter again"
            )
