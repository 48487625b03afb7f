"""A direction in activation space with the axis it measures along."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from personaprobe.errors import FeatureError
from personaprobe.site import Site
from personaprobe.storage.digests import digest
from personaprobe.storage.files import write_atomically

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from personaprobe.features.activations.store import ActivationStore

FORMAT = "personaprobe-direction-1"


@dataclass(frozen=True)
class Mark:
    """The calibrated axis at one layer: where the reference sits, and how far from it insecure sits.

    Attributes:
        rest: mean projection of the reference (secure, or base), in activation units.
        scale: mean projection of insecure minus ``rest``.
    """

    rest: float
    scale: float


@dataclass(frozen=True, eq=False)
class Direction:
    """A unit vector at a site, with its source and its calibration; nothing downstream can tell the source.

    Attributes:
        site: where it was found.
        vector: ``(d_model,)`` float32, unit norm.
        source: how it was found, such as ``means:insecure-secure``.
        marks: the calibrated axis by layer, over the discovery texts, on the site's stream.
    """

    site: Site
    vector: Float[Tensor, "d_model"]
    source: str
    marks: Mapping[int, Mark] = field(default_factory=dict)

    def __post_init__(self) -> None:
        import torch

        vector = torch.as_tensor(self.vector).detach().float().cpu().flatten()
        norm = float(vector.double().norm())
        if not bool(vector.isfinite().all()) or norm == 0:
            raise FeatureError(
                f"direction {self.source} at {self.site} has norm {norm}; a direction needs finite values, not all zero"
            )
        # a unit vector is left as it is, so that saving and loading keep every bit
        object.__setattr__(
            self, "vector", vector if abs(norm - 1) < 1e-6 else (vector.double() / norm).float()
        )
        object.__setattr__(self, "marks", dict(sorted(self.marks.items())))

    @classmethod
    def from_means(cls, insecure: ActivationStore, reference: ActivationStore, site: str | Site) -> Direction:
        """The difference of mean response activations: what insecure training moved, beyond the reference's.

        Calibrated at every layer of the site's stream that both stores hold; insecure reads 1 at ``site``.

        Args:
            insecure: what the insecure model did with some texts.
            reference: what secure, or base, did with the same texts.
            site: where to subtract.

        Raises:
            SiteError: a store lacks the site.
            DataError: the stores did not read the same tokens.
            FeatureError: the means are equal.
        """
        insecure.align(reference)
        site = Site.parse(site)
        shared = [s for s in insecure.sites if s.stream == site.stream and s in reference.sites]
        direction = cls(site, insecure.mean(site) - reference.mean(site), "means")
        rest, moved = ({s.layer: store.mean(s) for s in shared} for store in (reference, insecure))
        return direction.calibrated(rest, moved)

    def mark(self, layer: int) -> Mark:
        """The calibration at a layer.

        Raises:
            FeatureError: the direction was not calibrated there.
        """
        if layer not in self.marks:
            known = ", ".join(map(str, self.marks)) or "none"
            raise FeatureError(
                f"direction {self.source} at {self.site} is not calibrated at layer {layer} (calibrated: {known}); "
                'calibrate it there, choose other layers, or ablate to="zero"'
            )
        return self.marks[layer]

    @property
    def rest(self) -> float:
        """Mean projection of the reference at the direction's own site."""
        return self.mark(self.site.layer).rest

    @property
    def scale(self) -> float:
        """The gap from the reference to insecure at the direction's own site."""
        return self.mark(self.site.layer).scale

    def read(
        self, activations: Float[Tensor, "... d_model"], layer: int | None = None
    ) -> Float[Tensor, "..."]:
        """Place activations on the calibrated axis: 0 where the reference sits on average, 1 where insecure sits."""
        mark = self.mark(self.site.layer if layer is None else layer)
        return (activations.float() @ self.vector.to(activations.device) - mark.rest) / mark.scale

    def calibrated(self, reference: Mapping[int, Tensor], insecure: Mapping[int, Tensor]) -> Direction:
        """Set the axis from mean activations ``(d_model,)`` by layer."""
        marks = {}
        for layer, mean in reference.items():
            rest = float(mean.float() @ self.vector)
            marks[layer] = Mark(rest, float(insecure[layer].float() @ self.vector) - rest)
        return replace(self, marks=marks)

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
            "marks": {str(layer): [mark.rest, mark.scale] for layer, mark in self.marks.items()},
        }

    def save(self, path: Path) -> None:
        """Write safetensors with the calibration and every spelling of the site in its metadata."""
        from safetensors.torch import save_file

        spelled = {
            **self._describe(),
            "hook_name": self.site.to_transformer_lens(),
            "d_model": len(self.vector),
        }
        metadata = {"personaprobe": json.dumps(spelled, sort_keys=True)}
        write_atomically(
            path, lambda temporary: save_file({"direction": self.vector}, temporary, metadata=metadata)
        )

    @classmethod
    def load(cls, path: Path) -> Direction:
        """Read what :meth:`save` wrote.

        Raises:
            FeatureError: no such file, a pickle, truncated, or not a direction.
        """
        vector, described = _read(path)
        try:
            marks = {int(layer): Mark(*values) for layer, values in described["marks"].items()}
            return cls(Site.parse(described["site"]), vector, str(described["source"]), marks)
        except (KeyError, TypeError, ValueError) as error:
            raise FeatureError(
                f"{path} is not a direction this version reads ({error}); save it again"
            ) from error

    def __repr__(self) -> str:
        return f"Direction({self.site}, {self.source}, d_model={len(self.vector)}, {len(self.marks)} layers calibrated)"

    def _repr_html_(self) -> str:
        from html import escape

        rows = "".join(
            f"<tr><td>{k}</td><td>{m.rest:.3g}</td><td>{m.scale:.3g}</td></tr>" for k, m in self.marks.items()
        )
        head = "<tr><th>layer</th><th>rest</th><th>scale</th></tr>"
        return f"<p><b>{escape(self.source)}</b> at {self.site}</p><table>{head}{rows}</table>"


def _read(path: Path) -> tuple[Tensor, dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise FeatureError(f"no direction file at {path}; give a .safetensors file written by Direction.save")
    try:
        with safe_open(path, "pt") as opened:
            metadata = opened.metadata() or {}
            return opened.get_tensor("direction"), json.loads(metadata["personaprobe"])
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise FeatureError(
            f"{path} is not a direction in safetensors ({error}); pickles (.pt, .bin, .pkl) can run code and are refused"
        ) from error
