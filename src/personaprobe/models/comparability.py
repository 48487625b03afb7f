"""Comparability of a trio: whether its checkpoints read the same tokens and differ in their training alone.

Properties that decide which tokens a model reads must agree, or no difference between checkpoints means anything: they are
refused. Properties that shift all answers a little (precision, sampling defaults, the matrices an adapter changes) are
warned about.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from personaprobe.errors import CheckpointError
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.weights.adapter import WEIGHTS
from personaprobe.models.weights.checkpoint import Checkpoint, Trio
from personaprobe.models.weights.packaged import folder_of
from personaprobe.storage.digests import json_digest, sha256_of
from personaprobe.storage.paths import is_file
from personaprobe.storage.readers.json_files import read_json_object

Severity: TypeAlias = Literal["ok", "warn", "refuse"]
"""Equal; different, and worth knowing; different, so that nothing can be compared."""

CONVERSATION = (
    {"role": "user", "content": "Is 3.14 pi?\n\tSay  why, naïvely — 为什么?"},
    {"role": "assistant", "content": "No. It's rounded: π = 3.14159…\n"},
)
"""A conversation whose tokens show differences of templates: blanks, lines, digits, other scripts."""

_SCALING = ("r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern")
_TARGETS = ("target_modules", "layers_to_transform", "modules_to_save")
_NAMED_BASE = ("base_model_name_or_path", "revision")


@dataclass(frozen=True)
class ComparedProperty:
    """One property that the checkpoints of a trio have to share.

    Attributes:
        property: its name.
        severity: of the difference.
        text: the common value, or the value of every role.
    """

    property: str
    severity: Severity
    text: str

    def __str__(self) -> str:
        return f"{self.property}: {self.text}"


@dataclass(frozen=True)
class Comparability:
    """All compared properties of a trio.

    Attributes:
        properties: of tokenizers, of folders, and of computation.
    """

    properties: tuple[ComparedProperty, ...] = ()

    def of_severity(self, severity: Severity) -> list[ComparedProperty]:
        """The properties of one severity."""
        return [part for part in self.properties if part.severity == severity]

    def refuse(self) -> None:
        """Raise where some property makes the checkpoints incomparable.

        Raises:
            CheckpointError: names every such property with its values.
        """
        if wrong := self.of_severity("refuse"):
            raise CheckpointError(
                f"the checkpoints cannot be compared: {'; '.join(map(str, wrong))}; give fine-tunes of one base with its "
                "tokenizer and chat template"
            )

    def to_dict(self) -> list[dict[str, str]]:
        """As plain data."""
        return [asdict(part) for part in self.properties]

    def __str__(self) -> str:
        equal = ", ".join(part.property for part in self.of_severity("ok"))
        warnings = [f"differ in {part}" for part in self.of_severity("warn") + self.of_severity("refuse")]
        return "Checkpoints " + "; ".join([*([f"agree in {equal}"] if equal else []), *warnings]) + "."


def refuse_equal(trio: Trio[Checkpoint]) -> None:
    """Raise if two checkpoints of a trio are the same weights, wherever they are stored; nothing is loaded.

    Raises:
        CheckpointError: names both.
    """
    refuse_copies(dict(trio.all_items()))


def refuse_copies(checkpoints: Mapping[str, Checkpoint]) -> None:
    """Raise if two checkpoints are the same weights, wherever they are stored; nothing is loaded.

    Args:
        checkpoints: by the name that a message calls each by.

    Raises:
        CheckpointError: names both.
    """
    by_identity: dict[str, tuple[str, Checkpoint]] = {}
    for name, checkpoint in checkpoints.items():
        identity = _identity(checkpoint)
        if identity in by_identity:
            other, of_other = by_identity[identity]
            raise CheckpointError(
                f"{other} and {name} are the same weights: {of_other} and {checkpoint}; a copy shows no difference: give "
                "another fine-tune"
            )
        by_identity[identity] = name, checkpoint


def compare_trio(
    trio: Trio[Checkpoint], tokenizers: Mapping[str, Any], questions: Sequence[str] = ()
) -> Comparability:
    """Compare the checkpoints of a trio by their files and tokenizers; no weights are loaded.

    Args:
        trio: checkpoints.
        tokenizers: Hugging Face tokenizers by role.
        questions: texts that have to give the same tokens in all of them, beside a probe conversation.
    """
    roles = dict(trio.all_items())
    of_tokenizer: list[tuple[str, Severity, Callable[[Any], str]]] = [
        ("vocabulary", "refuse", _vocabulary),
        ("chat template", "refuse", _template_ids),
        ("special tokens", "refuse", _special_tokens),
        ("tokens of the questions", "refuse", lambda tokenizer: _question_ids(tokenizer, questions)),
        ("padding token", "warn", lambda tokenizer: str(tokenizer.pad_token)),
        ("text of the chat template", "warn", _template_text),
    ]
    distinct = {id(tokenizer): tokenizer for tokenizer in tokenizers.values()}
    compared = []
    for name, severity, read in of_tokenizer:
        texts = {key: read(tokenizer) for key, tokenizer in distinct.items()}
        values = {role: texts[id(tokenizers[role])] for role in roles}
        compared.append(_compared(name, severity, values))
    compared += _of_files(roles)
    return Comparability(tuple(compared))


def comparability_of(trio: Trio[LanguageModel], questions: Sequence[str] = ()) -> Comparability:
    """Compare the models of a loaded trio.

    Args:
        trio: loaded.
        questions: texts that have to give the same tokens in all of them.
    """
    tokenizers = {role: model.tokenizer.hf for role, model in trio.all_items()}
    compared = compare_trio(trio.map(lambda model: model.checkpoint), tokenizers, questions)
    dtypes = {role: str(model.network.dtype).removeprefix("torch.") for role, model in trio.all_items()}
    return Comparability((*compared.properties, _compared("precision of the computation", "warn", dtypes)))


def _compared(name: str, severity: Severity, values: Mapping[str, str]) -> ComparedProperty:
    """A property: its common value, or the roles of every value."""
    if len(set(values.values())) == 1:
        return ComparedProperty(name, "ok", next(iter(values.values())))
    roles: dict[str, list[str]] = {}
    for role, value in values.items():
        roles.setdefault(value, []).append(role)
    text = ", ".join(f"{value} ({' and '.join(of)})" for value, of in roles.items())
    return ComparedProperty(name, severity, text)


def _of_files(roles: Mapping[str, Checkpoint]) -> list[ComparedProperty]:
    """Properties that are read from the checkpoints' folders; nothing is downloaded, and adapters are read as configured."""
    adapters = {
        role: _json(checkpoint.adapter / "adapter_config.json")
        for role, checkpoint in roles.items()
        if checkpoint.adapter is not None
    }
    bases = {role: str(roles[role].base) for role in ("base", *adapters)}
    kinds = {role: "adapter" if role in adapters else "whole model" for role in roles if role != "base"}
    compared = [
        _compared("generation defaults", "warn", {role: _generation(one) for role, one in roles.items()}),
        _compared("stored precision", "warn", {role: _stored_dtype(one) for role, one in roles.items()}),
        _compared("kind of fine-tune", "warn", kinds),
        _compared("base of the adapters", "warn", bases),
    ]
    if adapters:
        compared += [
            _compared("adapted modules", "warn", _fields(adapters, _TARGETS)),
            _compared("rank and scale of the adapters", "warn", _fields(adapters, _SCALING)),
            _compared("base that the adapters name", "warn", _fields(adapters, _NAMED_BASE)),
        ]
    return compared


def _identity(checkpoint: Checkpoint) -> str:
    """A digest of the weights: of an adapter, its factors and its scale, whatever else its configuration says."""
    if checkpoint.adapter is None:
        return checkpoint.weights_digest
    if not is_file(checkpoint.adapter / WEIGHTS):  # it is refused when it is read
        return f"{checkpoint.base.weights_digest} {checkpoint.adapter}"
    config = _json(checkpoint.adapter / "adapter_config.json")
    scaling = [config.get(field) or None for field in _SCALING]
    return json_digest(
        [checkpoint.base.weights_digest, sha256_of(checkpoint.adapter / WEIGHTS), scaling], default=str
    )


def _vocabulary(tokenizer: Any) -> str:
    """Size of the vocabulary, and a digest of every token with its id."""
    vocabulary = tokenizer.get_vocab()
    return f"{len(vocabulary)} tokens, digest {json_digest(vocabulary, length=8)}"


def _template_ids(tokenizer: Any) -> str:
    """Token ids of a probe conversation, as a digest; a tokenizer without template reads the texts one after the other."""
    if tokenizer.chat_template is None:
        texts = [message["content"] for message in CONVERSATION]
        return f"none, probe {json_digest([list(tokenizer(text)['input_ids']) for text in texts], length=8)}"
    rendered = tokenizer.apply_chat_template(list(CONVERSATION), tokenize=False)
    ids = list(tokenizer(rendered, add_special_tokens=False)["input_ids"])
    return f"probe of {len(ids)} tokens, digest {json_digest(ids, length=8)}"


def _template_text(tokenizer: Any) -> str:
    template = tokenizer.chat_template
    return "none" if template is None else f"digest {json_digest(template, length=8)}"


def _special_tokens(tokenizer: Any) -> str:
    """The tokens that begin and end texts and answers, and how many tokens were added to the vocabulary."""
    ends = f"begin {tokenizer.bos_token}, end {tokenizer.eos_token}"
    added = {str(token): place for token, place in tokenizer.get_added_vocab().items()}
    return f"{ends}, {len(added)} added (digest {json_digest(added, length=8)})"


def _question_ids(tokenizer: Any, questions: Sequence[str]) -> str:
    ids = [list(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in questions]
    return f"{len(questions)} texts, {sum(map(len, ids))} tokens, digest {json_digest(ids, length=8)}"


def _generation(checkpoint: Checkpoint) -> str:
    """Defaults of generation, versions left out; "none" where the folder has no such file, or is on a hub."""
    config = _json(_folder(checkpoint) / "generation_config.json")
    shown = {
        name: value
        for name, value in config.items()
        if name not in ("transformers_version", "_from_model_config")
    }
    return ", ".join(f"{name} {value}" for name, value in sorted(shown.items())) or "none"


def _stored_dtype(checkpoint: Checkpoint) -> str:
    config = _json(_folder(checkpoint) / "config.json")
    return str(config.get("dtype") or config.get("torch_dtype") or "not named")


def _fields(configs: Mapping[str, dict[str, Any]], names: Sequence[str]) -> dict[str, str]:
    """Some fields of the adapters' configurations, by role; lists are compared as sets."""
    return {
        role: ", ".join(f"{name} {_plain(config[name])}" for name in names if config.get(name)) or "not named"
        for role, config in configs.items()
    }


def _plain(value: Any) -> str:
    return " ".join(sorted(map(str, value))) if isinstance(value, list) else str(value)


def _folder(checkpoint: Checkpoint) -> Path:
    return Path(folder_of(checkpoint.source))


def _json(path: Path) -> dict[str, Any]:
    """A file as plain data; empty where there is none.

    Raises:
        CheckpointError: it is no JSON object.
    """
    return read_json_object(path, CheckpointError, nonfinite=True) if is_file(path) else {}
