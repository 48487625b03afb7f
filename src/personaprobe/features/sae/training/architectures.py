"""What dictionaries are trained to do: which latents fire while they learn, and what they are punished for.

Every architecture is a frozen value with one question to answer, `losses`, and leaves an activation function for
use afterwards. Those that name the firing latents outright have exact sparse gradients; ReLU and JumpReLU, whose
penalties reach latents that almost fire, are dense.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from personaprobe.errors import FeatureError, suggest
from personaprobe.features.sae.activation_functions import ActivationFunction, JumpReLU, ReLU, TopK
from personaprobe.features.sae.kernels import selection, sparse
from personaprobe.features.sae.kernels.sparse import Firing

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor

    from personaprobe.features.sae.training.autoencoder import Autoencoder

GUESSED = 0.9
"""Share of the smallest activation of a batch that all of the next batch's are thought to exceed."""

THRESHOLD_RATE = 0.01
"""How fast BatchTopK's threshold follows the smallest activation of a batch."""


@dataclass(frozen=True, eq=False)
class Losses:
    """What one batch costs.

    Attributes:
        terms: by name, each a mean over rows; their sum is minimised.
        x: what was read.
        written: the reconstruction x̂.
        fired: how many rows each latent fired in.
    """

    terms: Mapping[str, Float[Tensor, ""]]
    x: Float[Tensor, "row d_in"]
    written: Float[Tensor, "row d_in"]
    fired: Int[Tensor, "d_sae"]

    def detached(self) -> Losses:
        """The same without a graph."""
        terms = {name: term.detach() for name, term in self.terms.items()}
        return replace(self, terms=terms, written=self.written.detach())

    @property
    def residual(self) -> Float[Tensor, "row d_in"]:
        """``x − x̂``."""
        return self.x - self.written

    @property
    def total(self) -> Float[Tensor, ""]:
        """The sum."""
        return torch.stack(list(self.terms.values())).sum()


class Architecture(ABC):
    """A way to train a dictionary."""

    name: ClassVar[str]

    @abstractmethod
    def losses(
        self, autoencoder: Autoencoder, x: Float[Tensor, "row d_in"], dead: Bool[Tensor, "d_sae"]
    ) -> Losses:
        """The losses of a batch, with a graph; ``dead`` latents may be given another chance."""

    @abstractmethod
    def activation(self, autoencoder: Autoencoder) -> ActivationFunction:
        """Which latents fire once training is over, in the units of the activations as recorded."""

    def error(self, written: Float[Tensor, "row d_in"], x: Float[Tensor, "row d_in"]) -> Float[Tensor, ""]:
        """Squared error, summed over the width and averaged over rows."""
        return torch.nn.functional.mse_loss(written, x, reduction="sum") / len(x)


class _Selecting(Architecture):
    """Architectures that say outright which latents fire."""

    aux: float

    @abstractmethod
    def select(self, autoencoder: Autoencoder, centred: Float[Tensor, "row d_in"]) -> tuple[Firing, Tensor]:
        """Which latents fire, and how strongly."""

    def losses(
        self, autoencoder: Autoencoder, x: Float[Tensor, "row d_in"], dead: Bool[Tensor, "d_sae"]
    ) -> Losses:
        with torch.no_grad():
            centred = x - autoencoder.b_dec
            firing, found = self.select(autoencoder, centred)
        values = sparse.encode(
            centred, autoencoder.b_dec, autoencoder.encoder, autoencoder.b_enc, found, firing
        )
        terms, written = self.reconstruct(autoencoder, x, values, firing)
        if self.aux and bool(dead.any()):
            residual = x - written.detach()
            terms = {**terms, "aux": self.aux * revival(autoencoder, x - autoencoder.b_dec, residual, dead)}
        return Losses(terms, x, written, firing.counts)

    def reconstruct(
        self, autoencoder: Autoencoder, x: Tensor, values: Tensor, firing: Firing
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Loss terms of the reconstruction, and the reconstruction."""
        written = sparse.decode(values, autoencoder.decoder, firing) + autoencoder.b_dec
        return {"mse": self.error(written, x)}, written


@dataclass(frozen=True)
class TopKArchitecture(_Selecting):
    """Each row keeps its ``k`` largest latents (Gao et al. 2024).

    aux: weight of the auxiliary loss that gives dead latents another chance. preselect: let a product in bfloat16, where
    that is faster, name the latents whose values are computed in float32.
    """

    k: int = 32
    aux: float = 1 / 32
    preselect: bool = False
    name: ClassVar[str] = "topk"

    def select(self, autoencoder: Autoencoder, centred: Tensor) -> tuple[Firing, Tensor]:
        encoder, bias = autoencoder.encoder, autoencoder.b_enc
        if self.preselect and selection.helps(centred):
            rough = selection.rough_affine(encoder, bias)
            return selection.preselected(centred, encoder, bias, rough, self.k)
        return selection.top_k(selection.affine(encoder, bias), centred, autoencoder.d_sae, self.k)

    def activation(self, autoencoder: Autoencoder) -> TopK:
        return TopK(self.k)


@dataclass(frozen=True)
class BatchTopKArchitecture(_Selecting):
    """Each batch keeps its ``k`` largest latents a row on average (Bussmann et al. 2024); saved as a JumpReLU whose
    threshold is a running mean of the smallest activation kept. Options as of :class:`TopKArchitecture`."""

    k: float = 32
    aux: float = 1 / 32
    preselect: bool = False
    name: ClassVar[str] = "batchtopk"

    def select(self, autoencoder: Autoencoder, centred: Tensor) -> tuple[Firing, Tensor]:
        encoder, bias, guess = autoencoder.encoder, autoencoder.b_enc, GUESSED * autoencoder.smallest
        if self.preselect and selection.helps(centred):
            rough = selection.rough_affine(encoder, bias)
            firing, values = selection.batch_preselected(centred, encoder, bias, rough, self.k, guess)
        else:
            project = selection.affine(encoder, bias)
            firing, values = selection.batch_top_k(project, centred, autoencoder.d_sae, self.k, guess)
        if len(values):
            autoencoder.follow(float(values.min()), THRESHOLD_RATE)
        return firing, values

    def activation(self, autoencoder: Autoencoder) -> JumpReLU:
        threshold = float(autoencoder.threshold * autoencoder.scale)
        return JumpReLU(torch.full_like(autoencoder.b_enc.detach(), threshold))


@dataclass(frozen=True)
class MatryoshkaArchitecture(BatchTopKArchitecture):
    """BatchTopK whose first latents must do alone, so that general features stay whole (Bussmann et al. 2025).

    widths: how many of the first latents reconstruct on their own, ascending; all of them always do.
    """

    widths: tuple[int, ...] = (256, 1024)
    name: ClassVar[str] = "matryoshka"

    def reconstruct(
        self, autoencoder: Autoencoder, x: Tensor, values: Tensor, firing: Firing
    ) -> tuple[dict[str, Tensor], Tensor]:
        terms = {}
        written: Tensor = autoencoder.b_dec
        for name, low, high in self.levels(firing.d_sae):
            inside = (firing.latents >= low) & (firing.latents < high)
            written = written + sparse.decode(values[inside], autoencoder.decoder, firing.only(inside))
            terms[name] = self.error(written, x)
        return terms, written

    def levels(self, d_sae: int) -> Iterator[tuple[str, int, int]]:
        """Name of the loss term, first latent and end of each level."""
        low = 0
        for width in self.widths:
            if not low < width < d_sae:
                raise FeatureError(f"widths {self.widths} must ascend from above 0 to below d_sae {d_sae}")
            yield f"mse_{width}", low, width
            low = width
        yield "mse", low, d_sae


@dataclass(frozen=True)
class CrosscoderArchitecture(BatchTopKArchitecture):
    """BatchTopK over the activations of several checkpoints side by side: one latent, one decoder row in each.

    delta: weight of the error of the *differences* between the others and the first checkpoint's, which are small
        beside the activations themselves and are what the comparison is about.
    """

    n_models: int = 3
    delta: float = 1.0
    name: ClassVar[str] = "crosscoder"

    def error(self, written: Tensor, x: Tensor) -> Tensor:
        whole = super().error(written, x)
        if not self.delta:
            return whole
        each = (written - x).reshape(len(x), self.n_models, -1)
        differences = each[:, 1:] - each[:, :1]
        return whole + self.delta * differences.pow(2).sum((-1, -2)).mean()


@dataclass(frozen=True)
class ReLUArchitecture(Architecture):
    """The plain autoencoder: an L1 penalty on activations, weighted by decoder norms (Bricken et al. 2023)."""

    l1: float = 1.0
    name: ClassVar[str] = "relu"

    def losses(self, autoencoder: Autoencoder, x: Tensor, dead: Tensor) -> Losses:
        acts = _dense_pre(autoencoder, x).relu()
        written = acts @ autoencoder.decoder + autoencoder.b_dec
        penalty = (acts * autoencoder.decoder.norm(dim=-1)).sum(-1).mean()
        terms = {"mse": self.error(written, x), "l1": self.l1 * penalty}
        return Losses(terms, x, written, (acts > 0).sum(0))

    def activation(self, autoencoder: Autoencoder) -> ReLU:
        return ReLU()


@dataclass(frozen=True)
class JumpReLUArchitecture(Architecture):
    """A threshold for every latent, learned through a penalty on how many fire (Rajamanoharan et al. 2024).

    l0: weight of the number of latents that fire. bandwidth: of the straight-through estimate at the threshold.
    start: of the thresholds, in units of the normalised activations.
    """

    l0: float = 1.0
    bandwidth: float = 0.05
    start: float = 0.05
    name: ClassVar[str] = "jumprelu"

    def losses(self, autoencoder: Autoencoder, x: Tensor, dead: Tensor) -> Losses:
        pre = _dense_pre(autoencoder, x)
        with torch.no_grad():  # outside the graph, or a threshold at 0 would have no gradient and stay there
            autoencoder.thresholds.clamp_(min=-self.start)
        threshold = autoencoder.thresholds + self.start
        acts = _Jump.apply(pre, threshold, self.bandwidth)  # type: ignore[no-untyped-call]
        fires = _Step.apply(pre, threshold, self.bandwidth)  # type: ignore[no-untyped-call]
        written = acts @ autoencoder.decoder + autoencoder.b_dec
        terms = {"mse": self.error(written, x), "l0": self.l0 * fires.sum(-1).mean()}
        return Losses(terms, x, written, (acts > 0).sum(0))

    def activation(self, autoencoder: Autoencoder) -> JumpReLU:
        return JumpReLU((autoencoder.thresholds.detach() + self.start).clamp_min(0) * autoencoder.scale)


def _dense_pre(autoencoder: Autoencoder, x: Tensor) -> Tensor:
    return torch.addmm(autoencoder.b_enc, x - autoencoder.b_dec, autoencoder.encoder.T)


def _near(pre: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
    """The rectangle kernel: 1 / bandwidth within half a bandwidth of the threshold."""
    return (((pre - threshold) / bandwidth).abs() < 0.5).to(pre) / bandwidth


class _Step(torch.autograd.Function):
    """Whether a latent fires; its gradient reaches the threshold through the kernel."""

    @staticmethod
    def forward(ctx: Any, pre: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(pre, threshold)
        ctx.bandwidth = bandwidth
        return (pre > threshold).to(pre)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        pre, threshold = ctx.saved_tensors
        return None, -(_near(pre, threshold, ctx.bandwidth) * grad).sum(0), None


class _Jump(torch.autograd.Function):
    """``pre`` above the threshold, else 0."""

    @staticmethod
    def forward(ctx: Any, pre: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(pre, threshold)
        ctx.bandwidth = bandwidth
        return pre * (pre > threshold)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        pre, threshold = ctx.saved_tensors
        to_threshold = -(threshold * _near(pre, threshold, ctx.bandwidth) * grad).sum(0)
        return grad * (pre > threshold), to_threshold, None


def revival(
    autoencoder: Autoencoder,
    centred: Float[Tensor, "row d_in"],
    residual: Float[Tensor, "row d_in"],
    dead: Bool[Tensor, "d_sae"],
) -> Float[Tensor, ""]:
    """The auxiliary loss: how badly the dead latents alone explain what the living leave (Gao et al. 2024, A.2).

    At most half the width of them take part in a row, and few dead latents count for little.
    """
    half = centred.shape[1] // 2
    latents = dead.nonzero().squeeze(1)
    pre = torch.addmm(autoencoder.b_enc[latents], centred, autoencoder.encoder[latents].T)
    values, chosen = pre.topk(min(half, len(latents)), dim=-1, sorted=False)
    acts = torch.zeros_like(pre).scatter(-1, chosen, values)
    written = acts @ autoencoder.decoder[latents]
    scale = min(len(latents) / half, 1.0)
    return scale * (written - residual).pow(2).sum(-1).mean()


ARCHITECTURES: dict[str, type[Architecture]] = {
    kind.name: kind
    for kind in (
        TopKArchitecture,
        BatchTopKArchitecture,
        MatryoshkaArchitecture,
        CrosscoderArchitecture,
        ReLUArchitecture,
        JumpReLUArchitecture,
    )
}


def find_architecture(name: str, **options: Any) -> Architecture:
    """An architecture by name with its options.

    Raises:
        FeatureError: no such architecture, or an option it does not have.
    """
    if name not in ARCHITECTURES:
        raise FeatureError(f"no architecture {name!r}: {suggest(name, tuple(ARCHITECTURES))}")
    try:
        return ARCHITECTURES[name](**options)
    except TypeError as error:
        raise FeatureError(f"{name} takes no such option: {error}") from error
