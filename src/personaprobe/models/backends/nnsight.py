"""nnsight as the engine: the Hugging Face model itself, read and written inside nnsight traces."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from personaprobe.models.backends.hosted import Hosted
from personaprobe.models.backends.hugging_face import HuggingFaceNetwork
from personaprobe.models.edits.edit import SiteEdits, apply
from personaprobe.models.tokens import Batch
from personaprobe.site import Site

if TYPE_CHECKING:
    from torch import Tensor


class NNsightNetwork(Hosted):
    """A Hugging Face model wrapped by nnsight in place: no second copy of weights, no download.

    The body of a trace runs beside the forward pass and waits at each module it asks for, with real tensors,
    so that any Python edit works. nnsight demands that modules be asked for in forward order. What it
    installs on modules stays there, and does nothing outside a trace.

    Attributes:
        root: nnsight's envoy of the whole model, for traces of one's own.
    """

    def __init__(self, source: HuggingFaceNetwork) -> None:
        import nnsight

        super().__init__(source)
        self.root = nnsight.NNsight(source.model)
        self._paths = {module: path for path, module in source.model.named_modules()}

    def logits(self, batch: Batch, edits: SiteEdits) -> Tensor:
        """Next-token logits of the whole Hugging Face model, traced."""
        import torch

        envoys = self._envoys(edits)
        found: list[Tensor] = []
        with torch.inference_mode(), self.root.trace(**_inputs(batch)):
            _visit(envoys, edits, batch.roles)
            found.append(self.root.output.logits)
        return found[0]

    def activations(self, batch: Batch, sites: Collection[Site], edits: SiteEdits) -> dict[Site, Tensor]:
        """Activations at ``sites``; the trace stops at the last of them."""
        import torch

        last = max(sites)
        envoys = self._envoys({*sites, *(site for site in edits if site < last)})
        seen: dict[Site, Tensor] = {}
        with torch.inference_mode(), self.root.trace(**_inputs(batch)) as tracer:
            seen.update(_visit(envoys, edits, batch.roles))
            tracer.stop()
        return {site: seen[site] for site in sites}

    def _envoys(self, sites: Collection[Site]) -> dict[Site, Any]:
        """The envoy at whose input or output each site is met, in forward order."""
        module = self.source.layout.module
        return {
            s: self.root.get(self._paths[module(s.within(self.n_layers).layer, s.stream)])
            for s in sorted(sites)
        }


def _visit(envoys: Mapping[Site, Any], edits: SiteEdits, roles: Tensor) -> dict[Site, Tensor]:
    """Edit and read every site as the model reaches it; only inside a trace."""
    seen = {}
    for site, envoy in envoys.items():
        inward = site.stream in ("resid_pre", "resid_mid")
        value = envoy.input if inward else envoy.output
        stream = value[0] if isinstance(value, tuple) else value
        edited = apply(edits.get(site, ()), stream, roles)
        if edited is not stream:
            _replace(site, envoy, value, edited)
        seen[site] = edited
    return seen


def _replace(site: Site, envoy: Any, value: Any, edited: Tensor) -> None:
    """Let the model go on with other activations than it made."""
    if site.stream == "resid_mid":
        value[:] = edited  # the norm's input is also what the block adds the MLP to: both must change
    elif site.stream == "resid_pre":
        envoy.input = edited
    else:
        envoy.output = (edited, *value[1:]) if isinstance(value, tuple) else edited


def _inputs(batch: Batch) -> dict[str, Any]:
    return {
        "input_ids": batch.ids,
        "attention_mask": batch.mask.long(),
        "position_ids": batch.positions,
        "use_cache": False,
    }
