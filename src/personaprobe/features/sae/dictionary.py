"""A sparse dictionary: activations as sums of a few of many directions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from personaprobe.errors import FeatureError
from personaprobe.features.directions.direction import Direction
from personaprobe.features.sae.activation_functions import ActivationFunction, JumpReLU
from personaprobe.site import Site
from personaprobe.storage.digests import digest, tensor_bytes

if TYPE_CHECKING:
    import torch
    from jaxtyping import Float
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Dictionary:
    """A trained sparse autoencoder: ``x ≈ b_dec + f(x) W_dec``, with few latents ``f(x)`` above 0.

    Attributes:
        site: where its input activations live.
        W_enc: ``(d_model, d_sae)``.
        b_enc: ``(d_sae,)``.
        W_dec: ``(d_sae, d_model)``; one row per latent.
        b_dec: ``(d_model,)``.
        activation: from pre-activations to latent activations.
        centred: whether ``b_dec`` is subtracted from the input before encoding.
        name: for tables, and for the spelling ``sae:NAME/LATENT``.
        card: how it was trained and how good it is, as plain data; saved and loaded with it.
    """

    site: Site
    W_enc: Float[Tensor, "d_model d_sae"] = field(repr=False)
    b_enc: Float[Tensor, "d_sae"] = field(repr=False)
    W_dec: Float[Tensor, "d_sae d_model"] = field(repr=False)
    b_dec: Float[Tensor, "d_model"] = field(repr=False)
    activation: ActivationFunction
    centred: bool = True
    name: str = "sae"
    card: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        import torch

        if self.W_enc.ndim != 2:
            raise FeatureError(
                f"{self.name}: W_enc has shape {tuple(self.W_enc.shape)}, expected (d_model, d_sae)"
            )
        d_model, d_sae = self.W_enc.shape
        expected = {
            "W_enc": (d_model, d_sae),
            "b_enc": (d_sae,),
            "W_dec": (d_sae, d_model),
            "b_dec": (d_model,),
        }
        tensors: dict[str, Tensor] = {name: getattr(self, name) for name in expected}
        for name, value in vars(self.activation).items():
            if isinstance(value, torch.Tensor):
                tensors[name], expected[name] = value, (d_sae,)
        for name, tensor in tensors.items():
            if tuple(tensor.shape) != expected[name]:
                raise FeatureError(
                    f"{self.name}: {name} has shape {tuple(tensor.shape)}, but W_enc {(d_model, d_sae)} asks for "
                    f"{expected[name]}"
                )
            if not bool(tensor.isfinite().all()):
                raise FeatureError(
                    f"{self.name} holds NaN or infinite weights in {name}; it was not saved whole, or diverged"
                )
        k = getattr(self.activation, "k", 1)
        if type(k) is not int or not 1 <= k <= d_sae:
            raise FeatureError(
                f"{self.name}: k is {k!r}, expected a whole number from 1 to the {d_sae} latents"
            )

    @property
    def d_model(self) -> int:
        """Width of an activation."""
        return int(self.W_enc.shape[0])

    @property
    def d_sae(self) -> int:
        """Number of latents."""
        return int(self.W_enc.shape[1])

    @cached_property
    def row_norms(self) -> Float[Tensor, "d_sae"]:
        """Norms of the decoder rows, float32.

        An activation times the norm is the length of what the latent writes. The scale of an activation alone is arbitrary:
        an encoder twice as large with a decoder row half as long computes the same, so that latents are compared by the
        product.
        """
        norms: Tensor = self.W_dec.float().norm(dim=-1)
        return norms

    def encode(self, x: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows d_sae"]:
        """Activations of all latents, in the dictionary's dtype.

        Raises:
            FeatureError: activations of another width, NaN or infinite ones.
        """
        return self.activation(self._centred(x) @ self.W_enc + self.b_enc)

    def encode_latents(
        self, x: Float[Tensor, "*rows d_model"], latents: Sequence[int]
    ) -> Float[Tensor, "*rows latent"]:
        """Activations of some latents, at O(d_model) per latent if the activation function is pointwise."""
        import torch

        chosen = torch.as_tensor(self.check(latents), device=self.W_enc.device)
        if not self.activation.pointwise:
            return self.encode(x)[..., chosen]
        columns = self._restricted(tuple(latents))[0]
        return self.activation.for_latents(chosen)(self._centred(x) @ columns + self.b_enc[chosen])

    def decode(self, acts: Float[Tensor, "*rows d_sae"]) -> Float[Tensor, "*rows d_model"]:
        """The reconstruction ``acts @ W_dec + b_dec``."""
        return acts @ self.W_dec + self.b_dec

    def check(self, latents: Sequence[int]) -> list[int]:
        """Return the latents as a list after checking that they exist.

        Raises:
            FeatureError: none, a repeated one, or one out of range.
        """
        wrong = [latent for latent in latents if not 0 <= latent < self.d_sae]
        if wrong or not latents or len(set(latents)) < len(latents):
            problem = f"latent {wrong[0]} is out of range" if wrong else f"latents {list(latents)} are given"
            raise FeatureError(f"{problem}: {self.name} has latents 0 to {self.d_sae - 1}; give each once")
        return list(latents)

    def decoder_rows(self, latents: Sequence[int]) -> Float[Tensor, "latent d_model"]:
        """Decoder rows of some latents."""
        return self._restricted(tuple(latents))[1]

    def on(self, device: torch.device) -> Dictionary:
        """The same dictionary on a device, cached: an ablation needs it at every token."""
        if self.W_enc.device == device:
            return self
        cache: dict[Any, Any] = self._cache
        if device not in cache:
            cache[device] = self.to(device=device)
        moved: Dictionary = cache[device]
        return moved

    def _restricted(self, latents: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Encoder columns and decoder rows of some latents, contiguous and cached."""
        cache: dict[Any, Any] = self._cache
        if latents not in cache:
            chosen = list(latents)
            cache[latents] = self.W_enc[:, chosen].contiguous(), self.W_dec[chosen]
        matrices: tuple[Tensor, Tensor] = cache[latents]
        return matrices

    @cached_property
    def _cache(self) -> dict[Any, Any]:
        return {}

    def _centred(self, x: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows d_model"]:
        if x.shape[-1] != self.d_model:
            raise FeatureError(
                f"{self.name} reads activations of width {self.d_model} and got {x.shape[-1]}: another model's"
            )
        x = x.to(self.W_enc.dtype)
        return x - self.b_dec if self.centred else x

    def to(self, device: Any = None, dtype: Any = None) -> Dictionary:
        """The same dictionary on another device or in another dtype."""
        moved = {
            name: getattr(self, name).to(device=device, dtype=dtype)
            for name in ("W_enc", "b_enc", "W_dec", "b_dec")
        }
        return replace(self, activation=self.activation.to(moved["b_enc"]), **moved)

    def with_scaled_thresholds(self, scale: float) -> Dictionary:
        """The same dictionary with every threshold multiplied by ``scale``; above 1, fewer latents are active.

        A threshold that keeps k latents per token on the training corpus may keep more on other text. The card records
        the scale, and drops the quality that was measured before.

        Raises:
            FeatureError: the activation function has no thresholds, or the scale is not above 0.
        """
        if not isinstance(self.activation, JumpReLU):
            kind = type(self.activation).__name__
            raise FeatureError(
                f"{self.name} fires by {kind}, which has no thresholds to scale; only JumpReLU has"
            )
        if not 0 < scale < math.inf:
            raise FeatureError(f"thresholds cannot be scaled by {scale}; give a number above 0, such as 1.05")
        card = {name: value for name, value in self.card.items() if name != "quality"}
        scaled = card.get("threshold_scale", 1.0) * scale
        activation = JumpReLU(self.activation.threshold * scale)
        return replace(self, activation=activation, card={**card, "threshold_scale": scaled})

    @cached_property
    def digest(self) -> str:
        """Identity by content: equal weights and activation functions have equal digests, whatever the name."""
        import torch

        kind = (
            f"{self.site} {self.centred} {type(self.activation).__name__}{getattr(self.activation, 'k', '')}"
        )
        tensors = [self.W_enc, self.b_enc, self.W_dec, self.b_dec]
        tensors += [value for value in vars(self.activation).values() if isinstance(value, torch.Tensor)]
        return digest(kind, *map(tensor_bytes, tensors))

    def direction(self, latent: int) -> Direction:
        """The decoder row of a latent as a direction, not calibrated."""
        return Direction(self.site, self.W_dec[self.check([latent])[0]], f"sae:{self.name}/{latent}")

    def cosines(self, direction: Float[Tensor, "d_model"]) -> Float[Tensor, "d_sae"]:
        """Cosine of every decoder row with a vector."""
        import torch

        return torch.nn.functional.cosine_similarity(self.W_dec.float(), direction.float()[None], dim=-1)

    def nearest(self, latent: int, n: int = 5) -> list[tuple[int, float]]:
        """The latents with the most similar decoder rows, with their cosines."""
        cosines = self.cosines(self.W_dec[self.check([latent])[0]])
        cosines[latent] = -2.0
        values, indices = cosines.topk(min(n, self.d_sae - 1))
        return list(zip(indices.tolist(), values.tolist(), strict=True))

    def __repr__(self) -> str:
        kind = type(self.activation).__name__
        return (
            f"Dictionary({self.name}: {self.d_sae} latents of {kind} at {self.site}, d_model {self.d_model})"
        )
