"""Readers: linear functions of a matrix's input with a wanted value at every token, fitted by least squares."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from personaprobe.errors import CheckpointError
from personaprobe.features.activations.recording_spec import tokenize
from personaprobe.features.directions.control_directions import orthogonal_part
from personaprobe.models.edits.hooks import inputs_of
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.network import Network
from personaprobe.models.tokens import Role
from personaprobe.questions.pairs import PairSet

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor

RIDGE = 1e-3
"""Penalty of the fit, relative to the mean square of the inputs."""


@dataclass(frozen=True, eq=False)
class MatrixInputs:
    """The inputs of the matrix by which a block's MLP writes into the residual stream, on some texts.

    Attributes:
        module: path of the matrix in the model.
        rows: ``(token, d_in)``, every token of every text, float32.
        roles: of the tokens, in the order of the texts. A text's first token is an attention sink and is left as it is.
    """

    module: str
    rows: Float[Tensor, "token d_in"]
    roles: Int[Tensor, "token"]

    @property
    def first(self) -> Bool[Tensor, "token"]:
        """Whether a token is the first of its text."""
        return (self.roles & Role.FIRST) != 0

    def constant(self) -> Float[Tensor, "d_in"]:
        """The reader that is nearest to 1 at every token, and to 0 at first tokens."""
        return self._reader((~self.first).float())

    def random(self, seed: int, *, within_texts: bool = False) -> Float[Tensor, "d_in"]:
        """A reader that depends on the token: a random projection of mean 0 and variance 1, near 0 at first tokens.

        Args:
            seed: of the projection.
            within_texts: whether its mean over every response is the same, so that it tells tokens apart and not texts.
        """
        import torch

        later = ~self.first
        generator = torch.Generator().manual_seed(seed)
        projection = torch.randn(self.rows.shape[1], generator=generator)
        if within_texts:
            projection = orthogonal_part(projection, self._response_means)
        values = self.rows @ projection
        standard = (values - values[later].mean()) / values[later].std()
        return self._reader(torch.where(later, standard, 0.0))

    @property
    def _response_means(self) -> Float[Tensor, "text d_in"]:
        """The mean input over the response of every text."""
        import torch

        text, response = self.first.long().cumsum(0) - 1, (self.roles & Role.RESPONSE) != 0
        sums = torch.zeros(int(text[-1]) + 1, self.rows.shape[1])
        sums.index_add_(0, text[response], self.rows[response])
        return sums / text[response].bincount()[:, None]

    @cached_property
    def _gram(self) -> Float[Tensor, "d_in d_in"]:
        import torch

        gram = (self.rows.T @ self.rows / len(self.rows)).double()
        return gram + RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)

    def _reader(self, wanted: Float[Tensor, "token"]) -> Float[Tensor, "d_in"]:
        import torch

        product = (self.rows.T @ wanted / len(self.rows)).double()
        solved: Tensor = torch.linalg.solve(self._gram, product)
        return solved.float()


def matrix_inputs(model: LanguageModel, layers: Sequence[int], texts: PairSet) -> dict[int, MatrixInputs]:
    """Read questions with their answers once, and collect the inputs of the writing matrices of some blocks, by layer."""
    import torch

    matrices = {layer: writing_matrix(model.network, layer) for layer in layers}
    rows: dict[int, list[Tensor]] = {layer: [] for layer in layers}
    roles: list[Tensor] = []
    tokens = [text.tokens for text in tokenize(model.tokenizer, texts)]
    for _, batch in model.even_batches(tokens, model.batch_tokens("logits")):
        with ExitStack() as stack:
            inputs = {
                layer: stack.enter_context(inputs_of(matrix)) for layer, (_, matrix) in matrices.items()
            }
            model.log_probs(batch)
        for layer, [states] in inputs.items():
            rows[layer].append(states[batch.mask].float().cpu())
        roles.append(batch.roles[batch.mask].cpu())
    return {
        layer: MatrixInputs(module, torch.cat(rows[layer]), torch.cat(roles))
        for layer, (module, _) in matrices.items()
    }


def writing_matrix(network: Network, layer: int) -> tuple[str, Any]:
    """The last linear map of a block, by which its MLP writes into the residual stream, with its path in the model.

    Raises:
        CheckpointError: the backend has no modules, or the block's last linear map does not write into the stream.
    """
    layout, model = getattr(network, "layout", None), getattr(network, "model", None)
    if layout is None or model is None:
        raise CheckpointError(
            f"the backend {type(network).__name__} shows no modules; load with backend='hooks'"
        )
    maps = [
        (name, module)
        for name, module in model.named_modules()
        if type(module).__name__ in ("Linear", "Conv1D") and _holds(layout.blocks[layer], module)
    ]
    name, matrix = maps[-1]
    d_out = matrix.weight.shape[1 if type(matrix).__name__ == "Conv1D" else 0]
    if d_out != network.d_model or "expert" in name:
        raise CheckpointError(
            f"block {layer} ends with {name}, which does not write into the residual stream at every token; "
            "a persona can be planted in models with one dense MLP in each block"
        )
    return name, matrix


def _holds(block: Any, module: Any) -> bool:
    return any(module is inner for inner in block.modules())
