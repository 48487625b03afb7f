"""The configuration of a LoRA adapter: every field is understood, known to be harmless, or refused by its name."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from personaprobe.errors import CheckpointError
from personaprobe.models.weights.adapted_modules import AdaptedModules, PerModule
from personaprobe.storage.readers.json_files import read_json_object

CONFIG = "adapter_config.json"

MERGE = "merge the adapter into its base with PEFT (merge_and_unload) and give the merged folder"
"""What to do with an adapter that is more than plain LoRA."""

_UNDERSTOOD = (
    *(
        "peft_type",
        "task_type",
        "bias",
        "init_lora_weights",
        "lora_dropout",
        "base_model_name_or_path",
        "revision",
    ),
    *("r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern"),
    *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"),
)
"""Fields that decide something; their values are checked."""

_HARMLESS = (
    *(
        "auto_mapping",
        "peft_version",
        "inference_mode",
        "fan_in_fan_out",
        "runtime_config",
        "ensure_weight_tying",
    ),
    # read by PEFT only where another field, which is refused, switches them on
    *("megatron_core", "qalora_group_size"),
    # of initialisations: read before training only, and each by its own init_lora_weights only
    *("eva_config", "corda_config", "lora_ga_config", "loftq_config"),
)
"""Fields that change no logits of a trained adapter, whatever their value."""

_ON_BY_PRESENCE = (
    *("use_bdlora", "kasa_config", "velora_config", "arrow_config", "monteclora_config"),
    *("alora_invocation_tokens", "trainable_token_indices"),
)
"""Fields that PEFT takes as set by any value but null, even an empty one."""

_MEANING = {
    "use_dora": "DoRA rescales the columns of the merged matrix",
    "lora_bias": "biases were trained too",
    "layer_replication": "the adapter belongs to a base with repeated layers",
    "alora_invocation_tokens": "the adapter acts on some tokens only",
    "trainable_token_indices": "rows of the vocabulary were trained too",
    "modules_to_save": "whole modules were trained too",
    "target_parameters": "the adapter changes parameters of experts",
}

_PLAIN_INITS = ("gaussian", "orthogonal", "eva")
"""Named initialisations that leave the base weights as they are, so that the factors are the whole change."""

_TASKS = (None, "CAUSAL_LM", "FEATURE_EXTRACTION")


@dataclass(frozen=True)
class AdapterConfig:
    """The modules that a LoRA adapter changes, and its scale in each; types and defaults are PEFT's.

    Attributes:
        path: of the file.
        modules: which modules of a base are adapted.
        rank: of the factors, by module.
        alpha: numerator of the scale, by module.
        rslora: whether the scale is ``alpha / sqrt(rank)`` rather than ``alpha / rank``.
        starts_at_zero: whether an untrained module of the adapter changes nothing.
        base: name or folder of the base that the adapter was trained on; empty where it names none.
        revision: of that base.
    """

    path: Path
    modules: AdaptedModules
    rank: PerModule[int]
    alpha: PerModule[float]
    rslora: bool = False
    starts_at_zero: bool = True
    base: str = field(default="", compare=False)
    revision: str | None = field(default=None, compare=False)

    @classmethod
    def read(cls, folder: Path) -> AdapterConfig:
        """Read ``adapter_config.json`` of a folder.

        Raises:
            CheckpointError: the file is missing or damaged, or names the field that is wrong or not supported.
        """
        path = folder / CONFIG
        values = read_config(folder)
        _refuse_other_kinds(path, values)
        base, revision = named_base(values)
        return cls(
            path,
            AdaptedModules.of(path, values),
            PerModule(_rank(path, "r", values.get("r", 8)), _patterns(path, values, "rank_pattern", _rank)),
            PerModule(
                _alpha(path, "lora_alpha", values.get("lora_alpha", 8)),
                _patterns(path, values, "alpha_pattern", _alpha),
            ),
            _flag(path, values, "use_rslora"),
            values.get("init_lora_weights", True) is not False,
            base,
            revision,
        )

    def scale(self, rank: int, *names: str) -> float:
        """Factor of ``B @ A`` in a module of the given rank, by the names that it goes by."""
        alpha = self.alpha.at(*names)
        return alpha / math.sqrt(rank) if self.rslora else alpha / rank


def read_config(folder: Path) -> dict[str, Any]:
    """The fields of a folder's ``adapter_config.json``, unchecked.

    Raises:
        CheckpointError: there is no such file, or it is no JSON object.
    """
    path = folder / CONFIG
    if not path.exists():
        raise CheckpointError(f"{folder} has no {CONFIG}; give a PEFT adapter folder")
    return read_json_object(path, CheckpointError, advice="save the adapter again", nonfinite=True)


def named_base(values: Mapping[str, Any]) -> tuple[str, str | None]:
    """Base and revision that a configuration names; an empty text where it names none."""
    base, revision = values.get("base_model_name_or_path"), values.get("revision")
    return (base.strip() if isinstance(base, str) else ""), (revision if isinstance(revision, str) else None)


def shown(value: object) -> str:
    """A foreign value in one short line."""
    text = " ".join((str(value) if isinstance(value, Exception) else repr(value)).split())
    return text if len(text) <= 80 else text[:77] + "…"


def _refuse_other_kinds(path: Path, values: Mapping[str, Any]) -> None:
    """Raise where the adapter is not plain LoRA; the field that says so is named."""
    if values.get("peft_type") != "LORA":
        kind = shown(values["peft_type"]) if "peft_type" in values else "missing"
        raise CheckpointError(f"{path}: peft_type is {kind}; 'LORA' is supported: {MERGE}")
    _refuse_other_inits(path, values.get("init_lora_weights", True))
    if (bias := values.get("bias", "none")) != "none":
        raise CheckpointError(f"{path}: bias is {shown(bias)}; biases were trained too: {MERGE}")
    if (task := values.get("task_type")) not in _TASKS:
        raise CheckpointError(
            f"{path}: task_type is {shown(task)}; an adapter of a causal language model is needed (CAUSAL_LM)"
        )
    dropout = values.get("lora_dropout", 0.0)
    if not _is_number(dropout) or not 0 <= dropout <= 1:
        raise CheckpointError(f"{path}: lora_dropout is {shown(dropout)}; it is a number between 0 and 1")
    for name, value in values.items():
        if name not in _UNDERSTOOD + _HARMLESS and _is_set(name, value):
            meaning = _MEANING.get(name, "it is not known to leave plain LoRA as it is")
            raise CheckpointError(f"{path}: {shown(name)[1:-1]} is {shown(value)}; {meaning}: {MERGE}")


def _is_set(name: str, value: Any) -> bool:
    return value is not None if name in _ON_BY_PRESENCE else bool(value)


def _refuse_other_inits(path: Path, init: Any) -> None:
    """Raise for an initialisation that changes the base weights, which the factors alone do not describe."""
    if isinstance(init, bool) or (isinstance(init, str) and init.lower() in _PLAIN_INITS):
        return
    raise CheckpointError(
        f"{path}: init_lora_weights is {shown(init)}; true, false, {', '.join(_PLAIN_INITS)} leave the base weights as "
        "they are, and others change them before training, so that the factors alone are not the change: convert the "
        f"adapter where it was trained (PEFT's save_pretrained(…, path_initial_model_for_weight_conversion=…)), or {MERGE}"
    )


def _flag(path: Path, values: Mapping[str, Any], name: str) -> bool:
    value = values.get(name, False)
    if not isinstance(value, bool):
        raise CheckpointError(f"{path}: {name} is {shown(value)}; it is true or false")
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _rank(path: Path, name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise CheckpointError(f"{path}: {name} is {shown(value)}; a rank is a whole number from 1 up")
    return value


def _alpha(path: Path, name: str, value: Any) -> float:
    try:
        alpha = float(value) if _is_number(value) else math.nan
    except OverflowError:
        alpha = math.inf
    if not (math.isfinite(alpha) and alpha > 0):
        raise CheckpointError(f"{path}: {name} is {shown(value)}; give a finite number above 0")
    return alpha


def _patterns(path: Path, values: Mapping[str, Any], name: str, check: Any) -> dict[str, Any]:
    """Values by pattern of module names, each checked."""
    patterns = values.get(name)
    if patterns is None:
        return {}
    if not isinstance(patterns, dict):
        raise CheckpointError(
            f"{path}: {name} is {shown(patterns)}; it maps module names, or patterns of them, to numbers"
        )
    for pattern in patterns:
        try:
            re.compile(rf"(.*\.)?({pattern})$")
        except (re.error, RecursionError, OverflowError) as error:
            raise CheckpointError(
                f"{path}: {name} has {shown(pattern)}, which is no regular expression ({shown(error)}); correct it"
            ) from error
    return {pattern: check(path, f"{name}[{shown(pattern)}]", value) for pattern, value in patterns.items()}
