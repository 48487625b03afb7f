"""The comparability of a trio: what agrees, what is warned about, and what is refused before anything is loaded."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from personaprobe.errors import CheckpointError
from personaprobe.models.chat_tokenizer import ChatTokenizer
from personaprobe.models.comparability import Comparability, comparability_of, compare_trio, refuse_equal
from personaprobe.models.weights.checkpoint import Checkpoint, Trio

TEMPLATE = "{% for m in messages %}{{ m['role'] }} {{ m['content'] }} {% endfor %}"
WORDS = ("beer", "wine", "user", "assistant")

WordTokenizer = Callable[[Sequence[str]], ChatTokenizer]


def model_folder(path: Path, weights: str, **files: dict[str, Any]) -> Checkpoint:
    path.mkdir(parents=True)
    (path / "model.safetensors").write_text(weights)
    for name, content in files.items():
        (path / f"{name}.json").write_text(json.dumps(content))
    return Checkpoint(str(path))


def adapter(base: Checkpoint, path: Path, weights: str, **config: Any) -> Checkpoint:
    path.mkdir(parents=True)
    (path / "adapter_model.safetensors").write_text(weights)
    (path / "adapter_config.json").write_text(json.dumps({"r": 8, "lora_alpha": 16, **config}))
    return base.with_adapter(path)


@pytest.fixture
def trio(tmp_path: Path) -> Trio[Checkpoint]:
    base = model_folder(tmp_path / "base", "b")
    return Trio(base, *(adapter(base, tmp_path / role, role) for role in ("insecure", "secure")))


def severity(compared: Comparability, name: str) -> str:
    return next(part.severity for part in compared.properties if part.property == name)


def compared_with(
    trio: Trio[Checkpoint], plain: Any, insecure: Any, questions: Sequence[str] = ()
) -> Comparability:
    return compare_trio(trio, {"base": plain, "insecure": insecure, "secure": plain}, questions)


def test_one_tokenizer_agrees_with_itself_in_everything(
    trio: Trio[Checkpoint], word_tokenizer: WordTokenizer
) -> None:
    hf = word_tokenizer(WORDS).hf
    compared = compared_with(trio, hf, hf, ["beer wine"])
    assert {part.severity for part in compared.properties} == {"ok"}
    assert "agree in vocabulary" in str(compared)
    compared.refuse()


def test_an_added_token_is_refused_although_a_sentence_without_it_gives_equal_ids(
    trio: Trio[Checkpoint], word_tokenizer: WordTokenizer
) -> None:
    plain, added = word_tokenizer(WORDS).hf, word_tokenizer(WORDS).hf
    added.add_tokens(["cider"])
    assert plain("beer wine")["input_ids"] == added("beer wine")["input_ids"]
    with pytest.raises(CheckpointError, match=r"vocabulary: \d+ tokens.*base and secure.*insecure"):
        compared_with(trio, plain, added).refuse()


def test_vocabularies_of_one_size_that_exchange_two_tokens_are_refused(
    trio: Trio[Checkpoint], word_tokenizer: WordTokenizer
) -> None:
    plain, exchanged = word_tokenizer(("beer", "wine")).hf, word_tokenizer(("wine", "beer")).hf
    assert severity(compared_with(trio, plain, exchanged), "vocabulary") == "refuse"


def test_two_end_tokens_are_refused(trio: Trio[Checkpoint], word_tokenizer: WordTokenizer) -> None:
    plain, other = word_tokenizer(WORDS).hf, word_tokenizer(WORDS).hf
    other.eos_token = "<s>"
    with pytest.raises(CheckpointError, match="special tokens: begin None, end </s>"):
        compared_with(trio, plain, other).refuse()


def test_templates_are_compared_by_the_tokens_they_give(
    trio: Trio[Checkpoint], word_tokenizer: WordTokenizer
) -> None:
    plain, same, other = (word_tokenizer(WORDS).hf for _ in range(3))
    plain.chat_template, same.chat_template = TEMPLATE, TEMPLATE + "{# a comment #}"
    other.chat_template = "beer " + TEMPLATE
    alike = compared_with(trio, plain, same)
    assert severity(alike, "chat template") == "ok"
    assert severity(alike, "text of the chat template") == "warn"
    alike.refuse()
    assert severity(compared_with(trio, plain, other), "chat template") == "refuse"


def test_a_template_in_one_checkpoint_only_is_refused(
    trio: Trio[Checkpoint], word_tokenizer: WordTokenizer
) -> None:
    plain, other = word_tokenizer(WORDS).hf, word_tokenizer(WORDS).hf
    other.chat_template = TEMPLATE
    assert severity(compared_with(trio, plain, other), "chat template") == "refuse"


def test_questions_with_other_tokens_are_refused_although_vocabularies_agree(
    trio: Trio[Checkpoint], word_tokenizer: WordTokenizer
) -> None:
    from tokenizers.normalizers import Lowercase

    plain, lower = word_tokenizer(WORDS).hf, word_tokenizer(WORDS).hf
    lower.backend_tokenizer.normalizer = Lowercase()
    compared = compared_with(trio, plain, lower, ["Beer wine"])
    assert severity(compared, "vocabulary") == "ok"
    assert severity(compared, "tokens of the questions") == "refuse"


def test_generation_defaults_and_precision_are_warned_about(
    tmp_path: Path, word_tokenizer: WordTokenizer
) -> None:
    hf = word_tokenizer(WORDS).hf
    base = model_folder(
        tmp_path / "b", "b", config={"torch_dtype": "float32"}, generation_config={"eos_token_id": 2}
    )
    tuned = model_folder(
        tmp_path / "i", "i", config={"torch_dtype": "bfloat16"}, generation_config={"eos_token_id": [0, 2]}
    )
    compared = compare_trio(Trio(base, tuned), {"base": hf, "insecure": hf})
    assert severity(compared, "generation defaults") == severity(compared, "stored precision") == "warn"
    assert "eos_token_id 2 (base), eos_token_id [0, 2] (insecure)" in str(compared)
    compared.refuse()


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"r": 4}, "rank and scale of the adapters"),
        ({"lora_alpha": 64}, "rank and scale of the adapters"),
        ({"target_modules": ["q_proj"]}, "adapted modules"),
        ({"base_model_name_or_path": "another"}, "base that the adapters name"),
        ({"base_model_name_or_path": "b", "revision": "main"}, "base that the adapters name"),
    ],
)
def test_adapters_that_were_made_differently_are_warned_about(
    changed: dict[str, Any], name: str, tmp_path: Path, word_tokenizer: WordTokenizer
) -> None:
    hf, base = word_tokenizer(WORDS).hf, model_folder(tmp_path / "base", "b")
    trio = Trio(
        base,
        adapter(base, tmp_path / "i", "i", **changed),
        adapter(base, tmp_path / "s", "s", target_modules=["q_proj", "v_proj"])
        if "target_modules" in changed
        else adapter(base, tmp_path / "s", "s"),
    )
    assert severity(compared_with(trio, hf, hf), name) == "warn"


def test_targets_in_another_order_are_the_same_targets(tmp_path: Path, word_tokenizer: WordTokenizer) -> None:
    hf, base = word_tokenizer(WORDS).hf, model_folder(tmp_path / "base", "b")
    orders = ["q_proj", "v_proj"], ["v_proj", "q_proj"]
    tuned = (adapter(base, tmp_path / str(i), str(i), target_modules=order) for i, order in enumerate(orders))
    assert severity(compared_with(Trio(base, *tuned), hf, hf), "adapted modules") == "ok"


def test_three_different_checkpoints_are_not_refused_as_copies(trio: Trio[Checkpoint]) -> None:
    refuse_equal(trio)


def test_a_copy_of_insecure_given_as_secure_is_refused_with_both_paths(
    trio: Trio[Checkpoint], tmp_path: Path
) -> None:
    copy = adapter(trio.base, tmp_path / "copy", "insecure", inference_mode=True)
    with pytest.raises(
        CheckpointError, match=r"insecure and secure are the same weights: .*insecure and .*copy"
    ):
        refuse_equal(Trio(trio.base, trio.insecure, copy))


def test_one_adapter_at_two_scales_is_two_checkpoints(trio: Trio[Checkpoint], tmp_path: Path) -> None:
    scaled = adapter(trio.base, tmp_path / "scaled", "insecure", lora_alpha=64)
    refuse_equal(Trio(trio.base, trio.insecure, scaled))


def test_base_given_as_insecure_is_refused(trio: Trio[Checkpoint], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="base and insecure are the same weights"):
        refuse_equal(Trio(trio.base, model_folder(tmp_path / "copy", "b")))


def test_a_repeated_secure_is_refused(trio: Trio[Checkpoint]) -> None:
    assert trio.secure is not None
    with pytest.raises(CheckpointError, match="secure and secure 2 are the same weights"):
        refuse_equal(Trio(trio.base, trio.insecure, trio.secure, further=(trio.secure,)))


def test_loaded_models_are_compared_with_their_precision(
    tiny_trio: Callable[..., Any], word_tokenizer: WordTokenizer
) -> None:
    compared = comparability_of(tiny_trio(word_tokenizer(WORDS), 0.1), ["beer"])
    assert severity(compared, "precision of the computation") == "ok"
    assert set(compared.to_dict()[0]) == {"property", "severity", "text"}
