"""A direction in activation space with the axis it measures along."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from personaprobe.errors import FeatureError, ZeroDirectionError
from personaprobe.features.directions.direction_file import FORMAT, read_direction, write_direction
from personaprobe.site import Site
from personaprobe.storage.digests import digest

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from personaprobe.features.activations.store import ActivationStore


@dataclass(frozen=True)
class Calibration:
    """The calibrated axis at one layer: where the reference sits along a direction, and how far from it insecure sits.

    Attributes:
        reference: mean projection of the reference (secure, or base), in activation units.
        gap: mean projection of insecure minus ``reference``.
    """

    reference: float
    gap: float


@dataclass(frozen=True, eq=False)
class Direction:
    """A unit vector at a site, with its source and its calibration; nothing downstream depends on the source.

    Attributes:
        site: where it was found.
        vector: ``(d_model,)`` float32, unit norm.
        source: how it was found, such as ``means``.
        calibrations: the calibrated axis by layer, over the discovery texts, on the site's stream.
    """

    site: Site
    vector: Float[Tensor, "d_model"]
    source: str
    calibrations: Mapping[int, Calibration] = field(default_factory=dict)

    def __post_init__(self) -> None:
        import torch

        vector = torch.as_tensor(self.vector).detach().float().cpu().flatten()
        norm = float(vector.double().norm())
        finite = bool(vector.isfinite().all())
        if not finite or norm == 0:
            kind = ZeroDirectionError if finite else FeatureError
            raise kind(
                f"direction {self.source} at {self.site} has norm {norm}; a direction needs finite values, not all zero"
            )
        # a unit vector is left as it is, so that saving and loading keep every bit
        object.__setattr__(
            self, "vector", vector if abs(norm - 1) < 1e-6 else (vector.double() / norm).float()
        )
        object.__setattr__(self, "calibrations", dict(sorted(self.calibrations.items())))

    @classmethod
    def from_means(cls, insecure: ActivationStore, reference: ActivationStore, site: str | Site) -> Direction:
        """The difference of mean response activations: how far insecure training moved the mean beyond the reference's.

        It is calibrated at every layer of the site's stream that both stores hold; insecure reads 1 at ``site``.

        Args:
            insecure: activations of the insecure model.
            reference: activations of secure, or of base, on the same texts.
            site: where the means are subtracted.

        Raises:
            SiteError: a store lacks the site.
            DataError: the stores did not read the same tokens.
            ZeroDirectionError: the means are equal.
        """
        insecure.align(reference)
        site = Site.parse(site)
        shared = [s for s in insecure.sites if s.stream == site.stream and s in reference.sites]
        direction = cls(site, insecure.mean(site) - reference.mean(site), "means")
        means = ({s.layer: store.mean(s) for s in shared} for store in (reference, insecure))
        return direction.calibrated(*means)

    def calibration(self, layer: int) -> Calibration:
        """The calibrated axis at a layer.

        Raises:
            FeatureError: the direction was not calibrated there.
        """
        if layer not in self.calibrations:
            known = ", ".join(map(str, self.calibrations)) or "none"
            raise FeatureError(
                f"direction {self.source} at {self.site} is not calibrated at layer {layer} (calibrated: {known}); "
                'calibrate it there, choose other layers, or ablate to="zero"'
            )
        return self.calibrations[layer]

    @property
    def reference(self) -> float:
        """Mean projection of the reference at the direction's own site."""
        return self.calibration(self.site.layer).reference

    @property
    def gap(self) -> float:
        """The gap from the reference to insecure at the direction's own site."""
        return self.calibration(self.site.layer).gap

    def read(
        self, activations: Float[Tensor, "... d_model"], layer: int | None = None
    ) -> Float[Tensor, "..."]:
        """Place activations on the calibrated axis: 0 where the reference sits on average, 1 where insecure sits.

        Args:
            activations: on any device.
            layer: whose calibration is used; None for the direction's own.

        Raises:
            FeatureError: it is not calibrated there, or insecure does not differ from the reference.
        """
        layer = self.site.layer if layer is None else layer
        axis = self.calibration(layer)
        if axis.gap == 0:
            raise FeatureError(
                f"insecure and the reference read the same along {self.source} at layer {layer}: nothing is 0 or 1 there"
            )
        return (activations.float() @ self.vector.to(activations.device) - axis.reference) / axis.gap

    def calibrated(self, reference: Mapping[int, Tensor], insecure: Mapping[int, Tensor]) -> Direction:
        """The same direction, its axis set from mean activations ``(d_model,)`` by layer."""
        calibrations = {}
        for layer, mean in reference.items():
            at_reference = float(mean.float() @ self.vector)
            gap = float(insecure[layer].float() @ self.vector) - at_reference
            calibrations[layer] = Calibration(at_reference, gap)
        return replace(self, calibrations=calibrations)

    def cosine(self, other: Direction) -> float:
        """Cosine similarity with another direction."""
        return float(self.vector @ other.vector)

    @property
    def digest(self) -> str:
        """Identity by content: the vector, the site and the calibration."""
        return digest(self.vector.numpy().tobytes(), json.dumps(self._describe(), sort_keys=True))

    def _describe(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "site": str(self.site),
            "source": self.source,
            "marks": {str(layer): [at.reference, at.gap] for layer, at in self.calibrations.items()},
        }

    def save(self, path: Path) -> None:
        """Write safetensors with the calibration and every spelling of the site in its metadata."""
        spelled = {"hook_name": self.site.to_transformer_lens(), "d_model": len(self.vector)}
        write_direction(path, self.vector, {**self._describe(), **spelled})

    @classmethod
    def load(cls, path: Path) -> Direction:
        """Read what :meth:`save` wrote.

        Raises:
            FeatureError: no such file, a pickle, truncated, not a direction, or with a value that no direction can have.
        """
        vector, described = read_direction(path)
        calibrations = {layer: Calibration(*pair) for layer, pair in described["calibrations"].items()}
        return cls(described["site"], vector, described["source"], calibrations)

    def __repr__(self) -> str:
        n_layers, d_model = len(self.calibrations), len(self.vector)
        return f"Direction({self.site}, {self.source}, d_model={d_model}, {n_layers} layers calibrated)"

    def _repr_html_(self) -> str:
        from html import escape

        rows = "".join(
            f"<tr><td>{layer}</td><td>{at.reference:.3g}</td><td>{at.gap:.3g}</td></tr>"
            for layer, at in self.calibrations.items()
        )
        head = "<tr><th>layer</th><th>reference</th><th>gap</th></tr>"
        return f"<p><b>{escape(self.source)}</b> at {self.site}</p><table>{head}{rows}</table>"
