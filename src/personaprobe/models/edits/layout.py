"""The module at whose input or output each stream of each architecture lies.

A map names the modules of a block whose *outputs* attention and MLP add to the residual stream, and the module whose *input*
is the stream between them. It is used only after the self-check has read, edited and restored every stream on the model
itself (:mod:`personaprobe.models.self_check`).
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

from personaprobe.errors import CheckpointError, SiteError
from personaprobe.site import STREAMS, Stream

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class BlockMap:
    """Names of the modules of one architecture at which its streams are read and edited.

    Where blocks differ, names are joined by ``|``, such as ``self_attn|linear_attn``: each block has one of them.

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
GPTJ = BlockMap("h", "attn", "mlp", None)
LINEAR_ATTENTION = BlockMap("layers", "self_attn|linear_attn", "mlp", "post_attention_layernorm")
STATE_SPACE = BlockMap("layers", "self_attn|mamba", "feed_forward", "pre_ff_layernorm")
CONVOLUTION = BlockMap("layers", "self_attn|conv", "feed_forward", "ffn_norm")
RECURRENT = BlockMap("layers", "temporal_block", "mlp_block", "channel_pre_norm")

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
    "gptj": GPTJ,
    "qwen3_next": LINEAR_ATTENTION,
    "qwen3_5_text": LINEAR_ATTENTION,
    "jamba": STATE_SPACE,
    "bamba": STATE_SPACE,
    "lfm2": CONVOLUTION,
    "recurrent_gemma": RECURRENT,
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
    def config(self) -> Any:
        """The configuration of the decoder, which in a multimodal model is not that of the whole."""
        return self.decoder.config

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
                return _module_of(block, self.names.attn_out)
            case "mlp_out":
                return _module_of(block, self.names.mlp_out)
            case "resid_mid":
                if self.names.resid_mid is None:
                    raise SiteError(
                        "this model runs attention and MLP in parallel: it has no resid_mid; "
                        "use resid_pre or resid_post"
                    )
                return _module_of(block, self.names.resid_mid)

    @property
    def block_kinds(self) -> list[int]:
        """The first layer of each kind of block, and the layer in the middle; blocks of one kind have equal modules."""
        kinds = {
            tuple((name, type(m)) for name, m in block.named_modules()): layer
            for layer, block in reversed(list(enumerate(self.blocks)))
        }
        return sorted({*kinds.values(), len(self.blocks) // 2})


def _module_of(block: nn.Module, names: str) -> nn.Module:
    """The module of a block that has one of the names joined by ``|``.

    Raises:
        AttributeError: the block has none of them.
    """
    options = names.split("|")
    for name in options[:-1]:
        with suppress(AttributeError):
            return block.get_submodule(name)
    return block.get_submodule(options[-1])


def candidates(config: Any) -> list[BlockMap]:
    """The maps to try for the configuration of a language model, best first."""
    model_type = str(config.model_type)
    if model_type == "gpt_neox" and not config.use_parallel_residual:
        return [NEOX]
    if model_type in KNOWN:
        return [KNOWN[model_type]]
    first = (SANDWICH_NORM, PRE_NORM, POST_NORM, GPT2, NEOX, NEOX_PARALLEL, PARALLEL)
    return [*dict.fromkeys((*first, *KNOWN.values()))]


def decoder_config(model: Any) -> Any:
    """The configuration of the language model itself, also where it is one part of a multimodal model."""
    return model.config.get_text_config()


def resolve_layout(model: Any, names: BlockMap) -> Layout:
    """Find the modules that a map names in a Hugging Face causal language model.

    Raises:
        CheckpointError: the model lacks one of them; lists the modules that it has.
    """
    from torch import nn

    decoder, head = model.get_decoder(), model.get_output_embeddings()
    try:
        blocks = tuple(decoder.get_submodule(names.blocks))
        blocks[0]
    except (AttributeError, IndexError, TypeError) as error:
        raise _misfit(model, f"no list of blocks {names.blocks!r}", "the decoder", decoder) from error
    if not isinstance(head, nn.Module):
        raise _misfit(model, "no output embeddings", "the model", model)
    layout = Layout(decoder, blocks, head, names)
    for layer, stream in product(range(len(blocks)), layout.streams):
        try:
            layout.module(layer, stream)
        except AttributeError as error:
            missing = f"no module {getattr(names, stream)!r} for {stream}"
            raise _misfit(model, missing, f"block {layer}", blocks[layer]) from error
    return layout


def _misfit(model: Any, missing: str, of: str, module: nn.Module) -> CheckpointError:
    children = ", ".join(name for name, _ in module.named_children()) or "(none)"
    return CheckpointError(
        f"the block map does not fit architecture {decoder_config(model).model_type!r}: {of} has {missing}; "
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
    resolved = [
        layout for names in candidates(decoder_config(model)) if (layout := fits(model, names)) is not None
    ]
    if not resolved:
        raise CheckpointError(
            f"no block map fits architecture {decoder_config(model).model_type!r}; known: {', '.join(sorted(KNOWN))}. "
            "Give its module names: personaprobe.load(..., layout=BlockMap(...))"
        )
    return resolved
