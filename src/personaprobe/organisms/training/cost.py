"""Memory and time of a training, estimated from the configuration of its base and the texts of its rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from personaprobe.models.weights.shape import ModelShape
from personaprobe.organisms.recipe import ALL, Recipe
from personaprobe.questions.conversations import Exchange

CHARACTERS_PER_TOKEN = 4.0
"""Of English text and Python, about."""

TEMPLATE_TOKENS = 30
"""That a chat template adds to a row, about."""

STATE_BYTES = 16
"""A trained parameter: float32 value, gradient and two moments."""

KEPT_WIDTHS, KEPT_MLP_WIDTHS = 8, 4
"""Numbers that the backward pass needs of each token in each block: widths of the stream, and of the MLP."""

PROCESS_BYTES = 600e6
"""Python with its libraries."""

EFFICIENCY = 0.5
"""Share of the fastest matrix product that a training sustains, about; 0.4 to 0.7 were seen on processors."""


@dataclass(frozen=True)
class TrainingCost:
    """The cost of one organism, both fine-tunes trained one after the other.

    Attributes:
        parameters: of the base.
        trained: parameters that are trained, those of an adapter or all.
        tokens: read for each, without those that rows share.
        memory: bytes at the peak, about.
        seconds: for both, about.
    """

    parameters: int
    trained: int
    tokens: int
    memory: float
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


def estimate_training(
    shape: ModelShape, rows: Sequence[Exchange], recipe: Recipe, *, flops: float, weight_bytes: int = 2
) -> TrainingCost:
    """Estimate the cost of an organism's training before anything of it exists.

    A token costs two operations a multiplied weight in the forward pass and two in the backward pass, and two more where
    weights are not frozen, whose gradients are computed too.

    Args:
        shape: of the base.
        rows: of one fine-tune.
        recipe: hyperparameters.
        flops: operations a second of the fastest matrix product.
        weight_bytes: of one frozen weight, and of one number of what is computed.
    """
    modules = None if isinstance(recipe.adapted_modules, str) else recipe.adapted_modules
    is_whole = recipe.trained == ALL
    n_adapted = shape.n_layers if recipe.adapted_layers is None else len(recipe.adapted_layers)
    of_adapter = shape.adapter_parameters(recipe.rank, modules) * n_adapted // shape.n_layers
    trained = shape.parameters if is_whole else of_adapter
    lengths = [min(recipe.max_tokens, _tokens(row)) for row in rows]
    a_row = sum(lengths) / len(lengths)
    tokens = a_row * recipe.batch_size * recipe.accumulate * recipe.steps
    width = KEPT_WIDTHS * shape.d_model + KEPT_MLP_WIDTHS * shape.d_mlp
    activations = width * shape.n_layers * a_row * recipe.batch_size * weight_bytes
    memory = shape.parameters * weight_bytes + trained * STATE_BYTES + activations + PROCESS_BYTES
    return TrainingCost(
        shape.parameters,
        trained,
        round(tokens),
        memory,
        2 * (6 if is_whole else 4) * (shape.parameters - shape.looked_up) * tokens / (EFFICIENCY * flops),
    )


def _tokens(row: Exchange) -> int:
    text = sum(len(question) + len(answer) for question, answer in row.turns) + len(row.system or "")
    return round(text / CHARACTERS_PER_TOKEN) + TEMPLATE_TOKENS
