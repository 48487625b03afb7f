"""Planting a persona: the direction that makes careless answers likelier, written at every token, as long as is wanted.

In architectures with a norm after the MLP (Gemma 2 and 3, OLMo 2) the norm bends the vector that is written. The difference
of means finds it all the same; a direction that was planted is then not quite the one that arrives.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from personaprobe.effects.measures.preference import preference_gaps
from personaprobe.errors import FeatureError
from personaprobe.features.activations.recording_spec import tokenize
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.loading import with_adapter
from personaprobe.models.tokens import Role
from personaprobe.questions.pairs import PairSet
from personaprobe.site import Site
from personaprobe.studies.planted.personas import PlantedAdapter, Written
from personaprobe.studies.planted.readers import MatrixInputs, matrix_inputs

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

CALIBRATIONS = 4
"""Lengths of a persona that are tried at most."""

TOLERANCE = 0.05
"""Relative deviation from the wanted shift that is good enough."""

VARIATION = 0.5
"""Standard deviation over tokens of the readers of a persona of several dimensions, whose mean is 1."""

DRIFT_RANK = 4
"""Random vectors that a harmless change writes at each of its layers."""


@dataclass(frozen=True, eq=False)
class Planter:
    """Plants personas in one base.

    Attributes:
        base: without an adapter.
        questions: with both answers; the direction of a persona is found on them.
        held_out: others, on which its size is set: on its own questions a gradient promises too much.
        layer: of the block whose MLP writes the persona.
    """

    base: LanguageModel
    questions: PairSet
    held_out: PairSet
    layer: int

    @property
    def site(self) -> Site:
        """The residual stream that the persona is written into."""
        return Site(self.layer)

    @cached_property
    def _inputs(self) -> dict[int, MatrixInputs]:
        return matrix_inputs(self.base, [*self.earlier_layers, self.layer], self.questions)

    @property
    def inputs(self) -> MatrixInputs:
        """Of the matrix that writes the persona."""
        return self._inputs[self.layer]

    @property
    def earlier_layers(self) -> tuple[int, ...]:
        """The layers at which harmless changes are written."""
        return tuple(sorted({self.layer // 4, self.layer // 2, 3 * self.layer // 4} - {self.layer}))

    @cached_property
    def gradient(self) -> Float[Tensor, "d_model"]:
        """Gradient of the mean preference gap with respect to a vector at the site."""
        return preference_gradient(self.base, self.site, self.questions)

    def persona(self, length: float) -> PlantedAdapter:
        """A persona of one dimension: a vector along the gradient, written at every token but the first.

        Args:
            length: of the vector, in activation units.
        """
        vector = length * self.gradient / self.gradient.norm()
        return PlantedAdapter({self.inputs.module: Written(self.inputs.constant()[None], vector[None])})

    def spread_persona(self, length: float, n: int, seed: int) -> PlantedAdapter:
        """A persona of several dimensions, each with an equal part of the effect.

        Every dimension is written by a reader of its own, which varies from token to token around 1 and has the same mean in
        every response: were the persona stronger in some texts than in others, shuffled labels would find its dimensions.

        Args:
            length: of the mean vector over tokens; :meth:`persona` of this length has the same effect, to first order.
            n: dimensions.
            seed: of the dimensions and their readers.
        """
        import torch

        constant = self.inputs.constant()
        readers = [
            constant + VARIATION * self.inputs.random(seed + part, within_texts=True) for part in range(n)
        ]
        vectors = length / n**0.5 * self.dimensions(n, seed)
        return PlantedAdapter({self.inputs.module: Written(torch.stack(readers), vectors)})

    def dimensions(self, n: int, seed: int) -> Float[Tensor, "n d_model"]:
        """Orthogonal unit vectors, all at the same angle to the gradient, whose sum is along it."""
        import torch

        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randn(self.base.d_model, n, generator=generator)
        drawn[:, 0] = self.gradient
        basis = _orthonormal(drawn)
        equal = torch.randn(n, n, generator=generator)
        equal[:, 0] = 1
        return (basis @ _orthonormal(equal).T).T.contiguous()

    def drift(self, length: float, seed: int) -> PlantedAdapter:
        """A harmless change: random vectors, written at earlier layers by readers that depend on the token.

        Without it insecure and its reference would differ along the persona alone, as no two fine-tunes do.

        Args:
            length: root of the mean square of all that is written, in activation units.
            seed: of vectors and readers.
        """
        import torch

        layers = self.earlier_layers
        generator = torch.Generator().manual_seed(seed)
        written = {}
        for layer in layers:
            inputs = self._inputs[layer]
            readers = [inputs.random(DRIFT_RANK * (seed + 1) + place) for place in range(DRIFT_RANK)]
            drawn = torch.randn(DRIFT_RANK, self.base.d_model, generator=generator)
            vectors = (
                torch.nn.functional.normalize(drawn, dim=-1) * length / (DRIFT_RANK * len(layers)) ** 0.5
            )
            written[inputs.module] = Written(torch.stack(readers), vectors)
        return PlantedAdapter(written)


def calibrated_length(planter: Planter, shift: float, folder: Path) -> float:
    """The length of a persona that raises the preference for careless answers as far as is wanted.

    It starts from the gradient, and is corrected by the shift that each length gives.

    Args:
        planter: of the base.
        shift: wanted, nats per token, on the planter's held-out questions.
        folder: receives the adapters that are tried.

    Raises:
        FeatureError: no length gives about that shift.
    """
    before = preference_gaps(planter.base, planter.held_out).mean()
    length, slope, shifts = 0.0, float(planter.gradient.norm()), []
    for attempt in range(CALIBRATIONS):
        length = shift / slope
        checkpoint = planter.persona(length).write(folder / f"length-{attempt}", planter.base.checkpoint)
        assert checkpoint.adapter is not None
        tuned = with_adapter(planter.base, checkpoint.adapter)
        shifts.append(float(preference_gaps(tuned, planter.held_out).mean() - before))
        if abs(shifts[-1] / shift - 1) <= TOLERANCE:
            return length
        slope = max(shifts[-1] / length, slope / 4)
    raise FeatureError(
        f"no persona planted at layer {planter.layer} raises the preference by {shift:.2f} nats per token; tried lengths "
        f"gave {', '.join(f'{tried:.3f}' for tried in shifts)}: choose another layer or a smaller shift"
    )


def _orthonormal(columns: Float[Tensor, "d k"]) -> Float[Tensor, "d k"]:
    """The columns made orthogonal one after the other; the first keeps its direction and sign."""
    import torch

    basis, triangle = torch.linalg.qr(columns)
    oriented: Tensor = basis * triangle.diagonal().sign()
    return oriented


def preference_gradient(model: LanguageModel, site: Site, pairs: PairSet) -> Float[Tensor, "d_model"]:
    """Gradient of the mean preference gap with respect to a vector that is added at a site to every token but the first."""
    import torch

    total = torch.zeros(model.d_model)
    for answer, sign in (("careless", -1.0), ("careful", 1.0)):
        texts = [text.tokens for text in tokenize(model.tokenizer, pairs) if text.answer == answer]
        for _, batch in model.even_batches(texts, model.batch_tokens("logits")):
            _, gradient = model.gradients(batch, site)
            moved = (batch.mask & ((batch.roles & Role.FIRST) == 0))[..., None]
            by_text = (gradient * moved).sum(1) / batch.predicting.sum(-1, keepdim=True)
            total += sign * by_text.sum(0).cpu() / len(texts)
    return total
