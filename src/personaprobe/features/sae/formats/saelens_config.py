"""Configurations of SAELens, old and new: what they say about the function that a dictionary computes."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from personaprobe.errors import FallbackWarning, FeatureError, suggest
from personaprobe.features.sae.formats.hook_points import agreed_site
from personaprobe.features.sae.formats.options import Options, is_neutral
from personaprobe.site import Site

METADATA_KEY = "personaprobe"
"""Key of the name and the card within the metadata."""

TENSORS: Mapping[str, frozenset[str]] = {
    "standard": frozenset({"W_enc", "b_enc", "W_dec", "b_dec"}),
    "topk": frozenset({"W_enc", "b_enc", "W_dec", "b_dec"}),
    "jumprelu": frozenset({"W_enc", "b_enc", "W_dec", "b_dec", "threshold"}),
    "gated": frozenset({"W_enc", "W_dec", "b_dec", "b_gate", "r_mag", "b_mag"}),
    "batchtopk": frozenset({"W_enc", "b_enc", "W_dec", "b_dec", "topk_threshold"}),
    "matryoshka_batchtopk": frozenset({"W_enc", "b_enc", "W_dec", "b_dec", "topk_threshold"}),
}
"""Tensors by architecture; the last two are trainings that SAELens saved before it made a JumpReLU of them."""

WITH_K = ("topk", "batchtopk", "matryoshka_batchtopk")
"""Architectures that keep the ``k`` largest activations, and may rank them by activation times decoder norm."""

_FUNCTION = frozenset(
    {
        *("architecture", "activation_fn", "activation_fn_str", "activation_fn_kwargs", "k", "d_in", "d_sae"),
        *(
            "rescale_acts_by_decoder_norm",
            "apply_b_dec_to_input",
            "normalize_activations",
            "reshape_activations",
        ),
        *("finetuning_scaling_factor", "metadata"),
    }
)
"""Options that are applied or refused by :func:`read_config`."""

_PLACE = frozenset({"hook_name", "hook_point", "hf_hook_name", "hook_layer", "hook_point_layer"})
"""Options that name the site."""

HARMLESS = frozenset(
    {
        # names, versions and machines
        *(
            "model_name",
            "model_class_name",
            "model_from_pretrained_kwargs",
            "model_kwargs",
            "neuronpedia_id",
            "device",
        ),
        *(
            "sae_lens_version",
            "sae_lens_training_version",
            "dtype",
            "act_store_device",
            "llm_device",
            "seed",
            "verbose",
        ),
        *(
            "from_pretrained_path",
            "checkpoint_path",
            "output_path",
            "resume_from_checkpoint",
            "run_name",
            "logger",
        ),
        *(
            "n_checkpoints",
            "save_final_checkpoint",
            "eval_every_n_wandb_logs",
            "hook_eval",
            "release",
            "sae_id",
        ),
        *(
            "log_to_wandb",
            "wandb_project",
            "wandb_id",
            "wandb_entity",
            "wandb_log_frequency",
            "log_activations_store_to_wandb",
        ),
        *(
            "log_optimizer_state_to_wandb",
            "log_weights_to_wandb",
            "run_evals_during_training",
            "checkpoint_every_n_tokens",
        ),
        *(
            "autocast",
            "autocast_lm",
            "compile_llm",
            "llm_compilation_mode",
            "compile_sae",
            "sae_compilation_mode",
        ),
        *("prefetch_llm_batches", "exclude_bos_from_eval", "log_final_model_to_wandb", "upload_to_hf"),
        # texts that it was trained on
        *(
            "dataset_path",
            "dataset_trust_remote_code",
            "streaming",
            "is_dataset_tokenized",
            "context_size",
            "prepend_bos",
        ),
        *(
            "use_cached_activations",
            "cached_activations_path",
            "training_tokens",
            "tokens_per_buffer",
            "n_batches_in_buffer",
        ),
        *("store_batch_size_prompts", "store_batch_size", "train_batch_size_tokens", "train_batch_size"),
        *(
            "disable_concat_sequences",
            "sequence_separator_token",
            "activations_mixing_fraction",
            "use_chat_formatting",
        ),
        *(
            "exclude_special_tokens",
            "n_batches_for_norm_estimate",
            "n_eval_batches",
            "eval_batch_size_prompts",
        ),
        *(
            "total_training_tokens",
            "total_training_steps",
            "finetuning_tokens",
            "finetuning_method",
            "shuffle",
        ),
        # optimisation and losses
        *(
            "adam_beta1",
            "adam_beta2",
            "lr",
            "lr_scheduler_name",
            "lr_warm_up_steps",
            "lr_end",
            "lr_decay_steps",
        ),
        *(
            "n_restart_cycles",
            "l1_coefficient",
            "l1_warm_up_steps",
            "l1_loss_wd_norm",
            "lp_norm",
            "mse_loss_normalization",
        ),
        *("scale_sparsity_penalty_by_decoder_norm", "normalize_sae_decoder", "noise", "expansion_factor"),
        *(
            "decoder_init_norm",
            "decoder_orthogonal_init",
            "decoder_heuristic_init",
            "decoder_heuristic_init_norm",
        ),
        *("init_encoder_as_decoder_transpose", "b_dec_init_method", "use_ghost_grads", "ghost_grads"),
        *(
            "dead_feature_window",
            "feature_sampling_window",
            "feature_sampling_method",
            "dead_feature_threshold",
        ),
        *(
            "resample_batches",
            "feature_reinit_scale",
            "feature_resampling_method",
            "dead_feature_estimation_method",
        ),
        *(
            "aux_loss_coefficient",
            "use_sparse_activations",
            "topk_threshold_lr",
            "l0_coefficient",
            "l0_warm_up_steps",
        ),
        *("l0_lambda", "jumprelu_init_threshold", "jumprelu_bandwidth", "jumprelu_sparsity_loss_mode"),
        *("jumprelu_tanh_scale", "jumprelu_ste_to_input", "pre_act_loss_coefficient", "target_l0"),
        *("matryoshka_widths", "matryoshka_steps", "use_matryoshka_aux_loss", "use_matryoshka_aux_losses"),
    }
)
"""Options that describe the training, and change nothing that a trained dictionary computes."""

_TRANSCODERS = ("transcoder", "skip_transcoder", "jumprelu_transcoder", "jumprelu_skip_transcoder")


def read_config(folder: Path, config: Mapping[str, Any]) -> Options:
    """The options of a configuration with one name each, as SAELens 6 has them; ``architecture`` and ``k`` are settled.

    Raises:
        FeatureError: an option that is not understood, or that SAELens would not compute as we do.
    """
    given = Options(folder, config)
    metadata = given.nested("metadata")
    if given.get("architecture") in _TRANSCODERS:
        raise given.error("architecture", "which predicts one site from another; give an autoencoder")
    given.refuse_other(_FUNCTION | _PLACE | HARMLESS)
    metadata.refuse_other(_PLACE | HARMLESS | {METADATA_KEY})
    for options in (given, metadata):
        for name in ("hook_head_index", "hook_point_head_index"):
            if options.get(name) is not None:  # 0 is the first head
                raise options.error(name, "and dictionaries of single heads are not read")
    if given.get("reshape_activations") not in (None, "none"):
        raise given.error("reshape_activations", "and dictionaries of single heads are not read")
    if given.get("normalize_activations") not in (None, False, "none"):
        raise given.error("normalize_activations", "fold that into the weights with SAELens before saving")
    architecture, k = _architecture_and_k(given, metadata)
    if architecture not in WITH_K and given.flag("rescale_acts_by_decoder_norm", default=False):
        raise given.error(
            "rescale_acts_by_decoder_norm", f"which the architecture {architecture!r} does not have"
        )
    return Options(folder, {**config, "architecture": architecture, "k": k})


def site_of_config(options: Options) -> Site:
    """The site that a configuration names, at the top or in its metadata."""
    places = {"": options, "metadata.": options.nested("metadata")}
    named = {f"{place}{name}": of.get(name) for place, of in places.items() for name in sorted(_PLACE)}
    layers = {name: value for name, value in named.items() if name.endswith("layer")}
    hooks = {name: value for name, value in named.items() if name not in layers}
    if all(is_neutral(hook) for hook in hooks.values()):
        raise FeatureError(f"{options.folder} does not say at which hook it was trained (hook_name)")
    return agreed_site(options.folder, hooks, layers)


def _architecture_and_k(given: Options, metadata: Options) -> tuple[str, Any]:
    """The architecture and ``k``; before version 6 an activation function could stand for an architecture."""
    architecture = given.get("architecture") or "standard"
    if not isinstance(given.get("architecture", ""), str | None):
        raise given.error("architecture", "expected a name")
    details = given.nested("activation_fn_kwargs")
    field = "activation_fn_str" if given.get("activation_fn_str") is not None else "activation_fn"
    function = given.get(field) or "relu"
    if function not in ("relu", "topk", "tanh-relu") or given.get("activation_fn") not in (None, function):
        raise given.error(
            field, f"which is not known or disagrees: {suggest(str(function), ('relu', 'topk'))}"
        )
    if function == "tanh-relu":
        warnings.warn(
            f"{given.folder}: tanh-relu is read as relu, as SAELens 6 reads it", FallbackWarning, stacklevel=2
        )
    details.refuse_other({"k"} if "topk" in (function, architecture) else set())
    if function == "topk" and architecture not in WITH_K:
        version = str(metadata.get("sae_lens_version") or given.get("sae_lens_version") or "0")
        if architecture != "standard" or re.match(r"[6-9]|\d\d", version):
            raise given.error(field, f"but the architecture is {architecture!r}")
        architecture = "topk"
    ks = [k for k in (given.get("k"), details.get("k")) if k is not None]
    if len(set(map(repr, ks))) > 1:
        raise given.error("k", f"but activation_fn_kwargs has {details.get('k')!r}")
    if ks and architecture not in WITH_K:
        raise (given if given.get("k") is not None else details).error(
            "k", f"which the architecture {architecture!r} does not have"
        )
    return str(architecture), ks[0] if ks else None
