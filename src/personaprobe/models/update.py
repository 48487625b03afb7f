"""The update that fine-tuning made: an adapter's, or the difference of a whole model from its base."""

from __future__ import annotations

import math
from dataclasses import dataclass

from personaprobe.errors import CheckpointError
from personaprobe.models.language_model import LanguageModel


@dataclass(frozen=True)
class Update:
    """The size of an update.

    Attributes:
        norm: Frobenius norm ‖ΔW‖ over all weights.
        n_matrices: number of weights that changed; vectors, such as those of norms, count too.
    """

    norm: float
    n_matrices: int


def update_of(tuned: LanguageModel, base: LanguageModel) -> Update:
    """The size of a fine-tune's update.

    Args:
        tuned: on the base's copy of the weights, or on one of its own, in whose dtype the weights are compared.
        base: before fine-tuning.

    Raises:
        CheckpointError: the weights have other names or shapes than the base's.
    """
    if tuned.adapter is not None:
        return Update(tuned.adapter.norm(), len(tuned.adapter.updates))
    base.network.activate_adapter(None)
    before, after = base.network.weights(), tuned.network.weights()
    if {name: w.shape for name, w in before.items()} != {name: w.shape for name, w in after.items()}:
        raise CheckpointError(
            f"{tuned.checkpoint} has weights of other names or shapes than {base.checkpoint}; "
            "give fine-tunes of the same base"
        )
    energies = [
        float((after[name].float() - weight.float()).double().square().sum())
        for name, weight in before.items()
    ]
    return Update(math.sqrt(sum(energies)), sum(energy > 0 for energy in energies))
