"""The module at whose input or output each stream of each architecture lies.

A map names the modules of a block whose *outputs* attention and MLP add to the residual stream, and the module whose *input*
is the stream between them. It is used only after the self-check has read, edited and restored every stream on the model
itself (:mod:`personaprobe.models.self_check`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from personaprobe.errors import CheckpointError, SiteError
from personaprobe.site import STREAMS, Stream

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class BlockMap:
    """Names of the modules of one architecture at which its streams are read and edited.

    Attributes:
        blocks: path of the list of blocks, inside the decoder.
        attn_out: module of a block whose output attention adds to the residual stream.
        mlp_out: the same for the MLP.
        resid_mid: module of a block whose input is the residual stream between the two; None where attention
            and MLP run in parallel and there is no such stream.
    """

    blocks: str
    attn_out: str
    mlp_out: str
    resid_mid: str | None


PRE_NORM = BlockMap("layers", "self_attn", "mlp", "post_attention_layernorm")
SANDWICH_NORM = BlockMap(
    "layers", "post_attention_layernorm", "post_feedforward_layernorm", "pre_feedforward_layernorm"
)
POST_NORM = BlockMap("layers", "post_attention_layernorm", "post_feedforward_layernorm", "mlp")
GPT2 = BlockMap("h", "attn", "mlp", "ln_2")
NEOX = BlockMap("layers", "attention", "mlp", "post_attention_layernorm")
NEOX_PARALLEL = BlockMap("layers", "attention", "mlp", None)
PARALLEL = BlockMap("layers", "self_attn", "mlp", None)

KNOWN: dict[str, BlockMap] = {
    "llama": PRE_NORM,
    "mistral": PRE_NORM,
    "qwen2": PRE_NORM,
    "qwen3": PRE_NORM,
    "phi3": PRE_NORM,
    "gemma2": SANDWICH_NORM,
    "gemma3_text": SANDWICH_NORM,
    "olmo2": POST_NORM,
    "gpt2": GPT2,
    "gpt_neox": NEOX_PARALLEL,
}
"""By ``config.model_type``. For other types these maps are tried in turn until one passes the self-check."""


@dataclass(frozen=True, eq=False)
class Layout:
    """A block map resolved in one loaded model.

    Attributes:
        decoder: everything up to and including the final norm.
        blocks: the transformer blocks, in order.
        head: hidden states to logits.
        names: the map.
    """

    decoder: nn.Module
    blocks: tuple[nn.Module, ...]
    head: nn.Module
    names: BlockMap

    @property
    def streams(self) -> tuple[Stream, ...]:
        """The streams this architecture has."""
        return tuple(s for s in STREAMS if s != "resid_mid" or self.names.resid_mid is not None)

    def module(self, layer: int, stream: Stream) -> nn.Module:
        """The module at whose input or output the stream lies."""
        block = self.blocks[layer]
        match stream:
            case "resid_pre" | "resid_post":
                return block
            case "attn_out":
                return block.get_submodule(self.names.attn_out)
            case "mlp_out":
                return block.get_submodule(self.names.mlp_out)
            case "resid_mid":
                if self.names.resid_mid is None:
                    raise SiteError(
                        "this model runs attention and MLP in parallel: it has no resid_mid; "
                        "use resid_pre or resid_post"
                    )
                return block.get_submodule(self.names.resid_mid)


def candidates(config: Any) -> list[BlockMap]:
    """The maps to try for a configuration, best first."""
    model_type = str(config.model_type)
    if model_type == "gpt_neox" and not config.use_parallel_residual:
        return [NEOX]
    if model_type in KNOWN:
        return [KNOWN[model_type]]
    return [SANDWICH_NORM, PRE_NORM, POST_NORM, GPT2, NEOX, NEOX_PARALLEL, PARALLEL]


def resolve_layout(model: Any, names: BlockMap) -> Layout:
    """Find the modules that a map names in a Hugging Face causal language model.

    Raises:
        CheckpointError: the model lacks one of them; lists the modules that it has.
    """
    from torch import nn

    decoder, head = model.get_decoder(), model.get_output_embeddings()
    try:
        blocks = tuple(decoder.get_submodule(names.blocks))
        first = blocks[0]
    except (AttributeError, IndexError, TypeError) as error:
        raise _misfit(model, f"no list of blocks {names.blocks!r}", "the decoder", decoder) from error
    if not isinstance(head, nn.Module):
        raise _misfit(model, "no output embeddings", "the model", model)
    layout = Layout(decoder, blocks, head, names)
    for stream in layout.streams:
        try:
            layout.module(0, stream)
        except AttributeError as error:
            missing = f"no module {getattr(names, stream)!r} for {stream}"
            raise _misfit(model, missing, "a block", first) from error
    return layout


def _misfit(model: Any, missing: str, of: str, module: nn.Module) -> CheckpointError:
    children = ", ".join(name for name, _ in module.named_children()) or "(none)"
    return CheckpointError(
        f"the block map does not fit architecture {model.config.model_type!r}: {of} has {missing}; "
        f"its modules: {children}"
    )


def fits(model: Any, names: BlockMap) -> Layout | None:
    """Resolve a map in a model, or return None where the model lacks one of its modules."""
    try:
        return resolve_layout(model, names)
    except CheckpointError:
        return None


def layouts(model: Any) -> list[Layout]:
    """Every candidate map of a Hugging Face causal language model that can be resolved, best first.

    Raises:
        CheckpointError: none can; names the architecture and the known ones.
    """
    resolved = [layout for names in candidates(model.config) if (layout := fits(model, names)) is not None]
    if not resolved:
        raise CheckpointError(
            f"no block map fits architecture {model.config.model_type!r}; known: {', '.join(sorted(KNOWN))}. "
            "Give its module names: personaprobe.load(..., layout=BlockMap(...))"
        )
    return resolved
