"""The interface of a training objective: the losses of one batch, and the activation function it leaves behind.

An architecture is a frozen dataclass. Its fields are its options; they are stored with every dictionary it trains.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import torch

from personaprobe.errors import FeatureError
from personaprobe.features.sae.activation_functions import ActivationFunction
from personaprobe.features.sae.row_layout import RowLayout

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor

    from personaprobe.features.sae.training.autoencoder import Autoencoder


@dataclass(frozen=True, eq=False)
class Losses:
    """Losses of one batch.

    Attributes:
        terms: loss terms by name, each a mean over rows; training minimises their sum.
        x: the input rows.
        reconstruction: x̂, the decoded rows.
        active_counts: number of rows in which each latent is active.
    """

    terms: Mapping[str, Float[Tensor, ""]]
    x: Float[Tensor, "row d_in"]
    reconstruction: Float[Tensor, "row d_in"]
    active_counts: Int[Tensor, "d_sae"]

    def detached(self) -> Losses:
        """The same values without the autograd graph."""
        terms = {name: term.detach() for name, term in self.terms.items()}
        return replace(self, terms=terms, reconstruction=self.reconstruction.detach())

    @property
    def residual(self) -> Float[Tensor, "row d_in"]:
        """``x − x̂``."""
        return self.x - self.reconstruction

    @property
    def total(self) -> Float[Tensor, ""]:
        """Sum of all terms."""
        return torch.stack(list(self.terms.values())).sum()


class Architecture(ABC):
    """A training objective for a dictionary.

    Subclasses are frozen dataclasses, so that options can be stored and compared.

    Attributes:
        name: the name under which the architecture is registered.
        layout: the rows it is trained on, unless the user chooses another layout.
    """

    name: ClassVar[str]
    layout: ClassVar[RowLayout] = "mixed"

    @classmethod
    def with_sparsity(cls, k: float, penalty: float, preselect: bool = False) -> Architecture:
        """Build the architecture from the options of ``personaprobe sae train``; the default uses none of them.

        Args:
            k: active latents per row (``--k``).
            penalty: weight of a sparsity penalty (``--sparsity``).
            preselect: find the active latents by a product in bfloat16 (``--preselect``).

        Raises:
            FeatureError: the architecture computes every latent in full and cannot preselect.
        """
        cls.refuse_preselection(preselect)
        return cls()

    @classmethod
    def refuse_preselection(cls, preselect: bool) -> None:
        """Raise if preselection is requested of an architecture that computes every latent in full."""
        if preselect:
            raise FeatureError(f"{cls.name} computes all latents in full; leave --preselect out")

    @abstractmethod
    def losses(
        self, autoencoder: Autoencoder, x: Float[Tensor, "row d_in"], dead: Bool[Tensor, "d_sae"]
    ) -> Losses:
        """Compute the losses of a batch, with an autograd graph.

        Args:
            autoencoder: the parameters.
            x: input rows, divided by ``autoencoder.scale``.
            dead: latents that have not been active for a while; an auxiliary loss may revive them.
        """

    @abstractmethod
    def activation(self, autoencoder: Autoencoder) -> ActivationFunction:
        """The activation function of the trained dictionary, in the units of the recorded activations."""

    def reconstruction_error(
        self, reconstruction: Float[Tensor, "row d_in"], x: Float[Tensor, "row d_in"]
    ) -> Float[Tensor, ""]:
        """Squared error, summed over the width and averaged over rows."""
        return torch.nn.functional.mse_loss(reconstruction, x, reduction="sum") / len(x)
