"""The nnsight backend: the Hugging Face model itself, read and edited inside nnsight traces."""

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
    """A Hugging Face model wrapped by nnsight in place: no second copy of the weights, no download.

    The body of a trace runs in parallel to the forward pass. It waits at each module it accesses and gets real tensors, so
    any Python edit works. nnsight requires that modules are accessed in forward order. Its wrappers stay on the modules and
    do nothing outside a trace.

    Attributes:
        root: nnsight's envoy of the whole model, for further traces.
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
        traced: list[Tensor] = []
        with torch.inference_mode(), self.root.trace(**_inputs(batch)):
            _edit_and_read(envoys, edits, batch.roles)
            traced.append(self.root.output.logits)
        return traced[0]

    def activations(self, batch: Batch, sites: Collection[Site], edits: SiteEdits) -> dict[Site, Tensor]:
        """Activations at ``sites``; the trace stops at the last of them."""
        import torch

        last = max(sites)
        envoys = self._envoys({*sites, *(site for site in edits if site < last)})
        read: dict[Site, Tensor] = {}
        with torch.inference_mode(), self.root.trace(**_inputs(batch)) as tracer:
            read.update(_edit_and_read(envoys, edits, batch.roles))
            tracer.stop()
        return {site: read[site] for site in sites}

    def _envoys(self, sites: Collection[Site]) -> dict[Site, Any]:
        """The envoy at whose input or output each site lies, in forward order."""
        module = self.source.layout.module
        return {
            s: self.root.get(self._paths[module(s.within(self.n_layers).layer, s.stream)])
            for s in sorted(sites)
        }


def _edit_and_read(envoys: Mapping[Site, Any], edits: SiteEdits, roles: Tensor) -> dict[Site, Tensor]:
    """Edit and read every site when the model reaches it; works only inside a trace."""
    read = {}
    for site, envoy in envoys.items():
        at_input = site.stream in ("resid_pre", "resid_mid")
        value = envoy.input if at_input else envoy.output
        activations = value[0] if isinstance(value, tuple) else value
        edited = apply(edits.get(site, ()), activations, roles)
        if edited is not activations:
            _replace(site, envoy, value, edited)
        read[site] = edited
    return read


def _replace(site: Site, envoy: Any, value: Any, edited: Tensor) -> None:
    """Continue the forward pass with edited activations."""
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
