"""The TransformerLens backend: a bridge around the model, read and edited at TransformerLens's hook points."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

from personaprobe.compute.out_of_memory import refuse_out_of_memory
from personaprobe.errors import CheckpointError, SiteError
from personaprobe.models.backends.hosted import Hosted
from personaprobe.models.backends.hugging_face import HuggingFaceNetwork
from personaprobe.models.edits.edit import SiteEdits, apply
from personaprobe.models.tokens import Batch
from personaprobe.models.weights.adapter import LoraAdapter
from personaprobe.site import Site

if TYPE_CHECKING:
    from torch import Tensor


class TransformerLensNetwork(Hosted):
    """A Hugging Face model in a ``TransformerBridge`` with raw weights: nothing folded, nothing centred.

    A bridge rewires the modules it is given. It therefore gets copies of the modules that share the same parameters, and the
    reference stays as it was. Where an architecture keeps Q, K and V in one matrix, the bridge copies the parts, so it is
    built again when another adapter is activated.

    Attributes:
        bridge: TransformerLens's model, for its own tools.
    """

    def __init__(self, source: HuggingFaceNetwork) -> None:
        super().__init__(source)
        self.bridge = _bridge(source.model)
        self._bridge_adapter: LoraAdapter | None = None

    def activate_adapter(self, adapter: LoraAdapter | None) -> None:
        """Merge the adapter into the shared weights, and into the bridge's copies of some of them."""
        super().activate_adapter(adapter)
        if adapter != self._bridge_adapter:
            self.bridge = _bridge(self.source.model)
            self._bridge_adapter = adapter

    def logits(self, batch: Batch, edits: SiteEdits) -> Tensor:
        """Next-token logits of the bridge under hooks."""
        return self._run(batch, [(site, _edit(site, edits, batch.roles)) for site in edits])

    def activations(self, batch: Batch, sites: Collection[Site], edits: SiteEdits) -> dict[Site, Tensor]:
        """Activations at ``sites``; the pass stops at the last of them."""
        last = max(sites)
        read: dict[Site, Tensor] = {}
        edit_hooks = [(site, _edit(site, edits, batch.roles)) for site in edits if site <= last]
        # hooks of one hook point run in the order given: taps read edited activations
        self._run(batch, [*edit_hooks, *((site, _tap(site, read, last)) for site in sites)])
        return read

    def _run(self, batch: Batch, hooks: Sequence[tuple[Site, Callable[..., Tensor]]]) -> Tensor:
        import torch

        with torch.inference_mode():
            output: Tensor = self.bridge.run_with_hooks(
                batch.ids,
                fwd_hooks=[(self._hook_point(site), hook) for site, hook in hooks],
                attention_mask=batch.mask.long(),
                position_ids=batch.positions,
                use_cache=False,
            )
        return output

    def _hook_point(self, site: Site) -> str:
        """Name a site's hook point; unknown names are refused here, since TransformerLens ignores them."""
        self.source.layout.module(site.within(self.n_layers).layer, site.stream)
        name = site.to_transformer_lens()
        if name not in self.bridge.hook_dict:
            raise SiteError(
                f"TransformerLens has no hook point {name} in this architecture; load the model with backend='hooks'"
            )
        return name


def _edit(site: Site, edits: SiteEdits, roles: Tensor) -> Callable[..., Tensor]:
    """The edits of one site as a TransformerLens hook."""

    def hook(activations: Tensor, hook: Any) -> Tensor:
        edited = apply(edits[site], activations, roles)
        if site.stream == "resid_mid" and edited is not activations:
            # the hook point is the norm's input, which is the very tensor that the block adds the MLP to
            return activations.copy_(edited)
        return edited

    return hook


def _tap(site: Site, read: dict[Site, Tensor], last: Site) -> Callable[..., Tensor]:
    """A hook that stores the activations; the deepest one ends the pass as TransformerLens's own stop does."""
    from transformer_lens.model_bridge.exceptions import StopAtLayerException

    def hook(activations: Tensor, hook: Any) -> Tensor:
        read[site] = activations
        if site == last:
            raise StopAtLayerException(activations)
        return activations

    return hook


def _bridge(model: Any) -> Any:
    """Build a bridge around copies of the modules that hold the model's very parameters.

    Raises:
        CheckpointError: TransformerLens does not know the architecture, or cannot map this model onto it.
    """
    from transformer_lens.factories.architecture_adapter_factory import SUPPORTED_ARCHITECTURES
    from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_from_module

    architecture = type(model).__name__
    if architecture not in SUPPORTED_ARCHITECTURES:
        raise CheckpointError(
            f"TransformerLens does not know {architecture}; load the model with backend='hooks' or 'nnsight'"
        )
    model_copy = copy.deepcopy(model, {id(parameter): parameter for parameter in model.parameters()})
    model_copy.set_attn_implementation("eager")  # its attention components support only this implementation
    try:
        return build_bridge_from_module(model_copy, architecture, hf_config=model_copy.config)
    except Exception as error:  # TransformerLens raises many kinds, all of them about this model's shape
        refuse_out_of_memory(error)
        raise CheckpointError(
            f"TransformerLens cannot map this {architecture}: {error}; "
            "load the model with backend='hooks' or 'nnsight'"
        ) from error
