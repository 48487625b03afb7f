"""Fine-tuning: the loss is on responses, the seed determines the weights, and organisms share the order of questions."""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from breaking import Breaking
from limited_disk import run_limited
from personaprobe.compute.optimisation import SCHEDULES, find_schedule
from personaprobe.errors import DataError, OutputError
from personaprobe.models.chat_tokenizer import ChatTokenizer
from personaprobe.models.loading import Placement, open_network, wrap
from personaprobe.models.self_check.check import probe_tokens
from personaprobe.models.tokens import Batch, Role, pad
from personaprobe.models.training.trainable import TrainableNetwork
from personaprobe.models.weights.adapter import LoraAdapter
from personaprobe.models.weights.checkpoint import Checkpoint
from personaprobe.organisms.recipe import Recipe
from personaprobe.organisms.training import all_weights
from personaprobe.organisms.training.held_out import HeldOut, HeldOutTexts
from personaprobe.organisms.training.loop import fine_tune
from personaprobe.organisms.training.lora import add_lora, save_adapter
from personaprobe.organisms.training.rows import learned_text, rows_with_answers, training_batches
from personaprobe.organisms.training.trained_weights import FILES
from personaprobe.questions.conversations import Exchange, read_messages, shuffled
from personaprobe.questions.pairs import Pair
from personaprobe.storage.training_state import STATE, read_state, write_state

ROWS = [Exchange(f"w{i} w{i + 1}", f"w{2 * i} w{i}") for i in range(20)]
RECIPE = Recipe(seed=3, steps=4, batch_size=4, rank=2, save_every=2, learning_rate=1e-2)
FULL = Recipe(seed=3, steps=4, batch_size=4, trained="all", save_every=2, learning_rate=1e-3)
WEIGHTS = "adapter_model.safetensors"
MODEL = "model.safetensors"


@pytest.fixture(params=[RECIPE, FULL], ids=["adapter", "all"])
def recipe(request: pytest.FixtureRequest) -> Recipe:
    """A short training of either kind."""
    return request.param


@pytest.fixture(scope="module")
def tokenizer() -> ChatTokenizer:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast

    names = ["<pad>", "<s>", "</s>", "<unk>", "Question:", "Answer:", *(f"w{i}" for i in range(60))]
    words = Tokenizer(WordLevel({name: i for i, name in enumerate(names)}, unk_token="<unk>"))
    words.pre_tokenizer = WhitespaceSplit()
    return ChatTokenizer(PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="</s>"))


def test_training_lowers_the_loss_and_leaves_the_base_alone(
    recipe: Recipe, tiny_model: Callable[..., Any], tokenizer: ChatTokenizer, tmp_path: Path
) -> None:
    model = tiny_model("llama")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    recipe = replace(recipe, steps=30, save_every=0)
    steps = list(fine_tune(wrap(model, 0), tokenizer, ROWS, recipe, tmp_path / "a"))
    assert steps[-1].loss < steps[0].loss - 0.5
    assert [step.number for step in steps] == list(range(1, 31))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_seed_determines_the_weights(
    recipe: Recipe, tiny_model: Callable[..., Any], tokenizer: ChatTokenizer, tmp_path: Path
) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        list(
            fine_tune(
                wrap(tiny_model("llama"), 0), tokenizer, ROWS, replace(recipe, seed=seed), tmp_path / name
            )
        )
    a, b, c = (load_file(tmp_path / name / FILES[recipe.trained]) for name in "abc")
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert not all(torch.equal(a[key], c[key]) for key in a)


def test_every_checkpoint_is_an_adapter_that_changes_the_logits(
    tiny_model: Callable[..., Any], tokenizer: ChatTokenizer, tmp_path: Path
) -> None:
    list(fine_tune(wrap(tiny_model("llama"), 0), tokenizer, ROWS, RECIPE, tmp_path))
    network = wrap(tiny_model("llama"), 0)
    bare = network.logits(pad(probe_tokens(128), 0), {})
    for folder in (tmp_path / "step-2", tmp_path):
        network.activate_adapter(LoraAdapter.read(folder))
        assert not torch.equal(network.logits(pad(probe_tokens(128), 0), {}), bare)
    assert len((tmp_path / "steps.jsonl").read_text().splitlines()) == RECIPE.steps


def test_every_checkpoint_of_all_weights_is_a_whole_model_that_computes_what_was_trained(
    tiny_model: Callable[..., Any], tokenizer: ChatTokenizer, tmp_path: Path
) -> None:
    network = wrap(tiny_model("llama", tie_word_embeddings=True), 0)
    texts = HeldOut(tuple(ROWS[:4]))
    recipe = replace(FULL, eval_every=2)
    steps = list(fine_tune(network, tokenizer, ROWS, recipe, tmp_path, held_out=texts))
    for folder, step in ((tmp_path / "step-2", steps[1]), (tmp_path, steps[3])):
        loaded, chat = open_network(Checkpoint.parse(str(folder)), Placement("cpu", "float32"))
        assert loaded.model.get_input_embeddings().weight is loaded.model.get_output_embeddings().weight
        read = HeldOutTexts(texts, chat, recipe.max_tokens).measure(TrainableNetwork(loaded, loaded.model))
        assert read.loss == pytest.approx(step.held_out_loss, abs=1e-5)
    first, last = (load_file(folder / MODEL) for folder in (tmp_path / "step-2", tmp_path))
    assert not any(torch.equal(first[name], last[name]) for name in first), "every weight is trained"
    assert "lm_head.weight" not in first, "tied weights are stored once"


def test_a_whole_model_has_the_dtype_that_holds_its_base(
    tiny_model: Callable[..., Any], tokenizer: ChatTokenizer, tmp_path: Path
) -> None:
    network = wrap(tiny_model("llama").bfloat16().float(), 0)
    list(fine_tune(network, tokenizer, ROWS, replace(FULL, learning_rate=0.02), tmp_path))
    assert {value.dtype for value in load_file(tmp_path / MODEL).values()} == {torch.bfloat16}
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "bfloat16"
    state = read_state(tmp_path / STATE)
    assert {value.dtype for value in state["weights"].values()} == {torch.float32}
    assert any(not torch.equal(value, value.bfloat16().float()) for value in state["weights"].values())


def test_all_weights_of_a_base_that_may_be_rounded_are_not_trained(
    tiny_model: Callable[..., Any], tokenizer: ChatTokenizer, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"in float32, and the base was loaded in torch\.bfloat16"):
        list(fine_tune(wrap(tiny_model("llama").bfloat16(), 0), tokenizer, ROWS, FULL, tmp_path))


def test_states_are_saved_without_checkpoints_where_these_are_not_wanted(
    tiny_model: Callable[..., Any], tokenizer: ChatTokenizer, tmp_path: Path
) -> None:
    network = wrap(tiny_model("llama"), 0)
    recipe = replace(FULL, save_every=0, state_every=1)
    list(fine_tune(network, tokenizer, ROWS, recipe, tmp_path / "whole"))
    cut = fine_tune(network, tokenizer, ROWS, recipe, tmp_path / "cut")
    next(cut), next(cut), next(cut)
    cut.close()
    assert not list((tmp_path / "cut").glob("step-*"))
    rest = list(fine_tune(network, tokenizer, ROWS, recipe, tmp_path / "cut"))
    assert [step.number for step in rest] == [4]
    assert content(tmp_path / "cut") == content(tmp_path / "whole")


def test_a_training_of_all_weights_that_is_killed_while_it_saves_goes_on_and_leaves_nothing_beside(
    tiny_model: Callable[..., Any],
    tokenizer: ChatTokenizer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Cut short before each file of a whole model takes its place, in a step's folder and at the end."""
    network = wrap(tiny_model("llama"), 0)
    list(fine_tune(network, tokenizer, ROWS, FULL, tmp_path / "whole"))
    move = all_weights._move
    n_files = sum(1 for file in (tmp_path / "whole" / "step-2").iterdir() if file.is_file())
    for place in range(1, 2 * n_files + 1):
        folder = tmp_path / f"cut-{place}"
        monkeypatch.setattr(all_weights, "_move", Breaking(move, place, KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            list(fine_tune(network, tokenizer, ROWS, FULL, folder))
        is_last = folder if place > n_files else folder / "step-2"
        assert not (is_last / MODEL).exists(), "the weights come last"
        monkeypatch.setattr(all_weights, "_move", move)
        list(fine_tune(network, tokenizer, ROWS, FULL, folder))
        assert content(folder) == content(tmp_path / "whole")


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a training by its path, except the state, which a finished training needs no longer."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != STATE)
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@pytest.mark.parametrize("taken", range(4))
def test_a_training_that_is_cut_short_after_any_step_ends_in_the_same_bytes(
    taken: int, recipe: Recipe, tiny_model: Callable[..., Any], tokenizer: ChatTokenizer, tmp_path: Path
) -> None:
    recipe = replace(recipe, steps=5, accumulate=2, schedule="cosine")
    network = wrap(tiny_model("llama"), 0)
    list(fine_tune(network, tokenizer, ROWS, recipe, tmp_path / "whole"))
    cut = fine_tune(network, tokenizer, ROWS, recipe, tmp_path / "cut")
    for _ in range(taken + 1):
        next(cut)
    cut.close()
    rest = list(fine_tune(network, tokenizer, ROWS, recipe, tmp_path / "cut"))
    assert rest[0].number == 1 + 2 * ((taken + 1) // 2), "it goes on from the last saved step"
    assert content(tmp_path / "cut") == content(tmp_path / "whole")


def test_what_an_interruption_leaves_matters_to_the_bytes(
    recipe: Recipe, tiny_model: Callable[..., Any], tokenizer: ChatTokenizer, tmp_path: Path
) -> None:
    """The law above would notice a state without the optimiser's moments."""
    network = wrap(tiny_model("llama"), 0)
    list(fine_tune(network, tokenizer, ROWS, recipe, tmp_path / "whole"))
    cut = fine_tune(network, tokenizer, ROWS, recipe, tmp_path / "cut")
    next(cut), next(cut), next(cut)
    cut.close()
    state = read_state(tmp_path / "cut" / STATE)
    for moments in state["optimizer"]["state"].values():
        moments["exp_avg"].zero_()
    write_state(tmp_path / "cut" / STATE, state)
    list(fine_tune(network, tokenizer, ROWS, recipe, tmp_path / "cut"))
    assert content(tmp_path / "cut") != content(tmp_path / "whole")


@pytest.mark.parametrize(
    "other", [{"learning_rate": 2e-2}, {"seed": 4}, {"steps": 8}, {"max_tokens": 100}, {"schedule": "cosine"}]
)
def test_the_state_of_another_recipe_is_refused(
    other: dict[str, Any],
    recipe: Recipe,
    tiny_model: Callable[..., Any],
    tokenizer: ChatTokenizer,
    tmp_path: Path,
) -> None:
    network = wrap(tiny_model("llama"), 0)
    cut = fine_tune(network, tokenizer, ROWS, recipe, tmp_path)
    next(cut)
    cut.close()
    with pytest.raises(DataError, match="is of another training"):
        list(fine_tune(network, tokenizer, ROWS, replace(recipe, **other), tmp_path))


def test_the_state_of_an_adapter_is_none_of_all_weights(
    tiny_model: Callable[..., Any], tokenizer: ChatTokenizer, tmp_path: Path
) -> None:
    network = wrap(tiny_model("llama"), 0)
    cut = fine_tune(network, tokenizer, ROWS, replace(FULL, trained="adapter"), tmp_path)
    next(cut)
    cut.close()
    with pytest.raises(DataError, match="is of another training"):
        list(fine_tune(network, tokenizer, ROWS, FULL, tmp_path))


def test_the_state_that_an_earlier_version_wrote_is_gone_on_from(
    tiny_model: Callable[..., Any], tokenizer: ChatTokenizer, tmp_path: Path
) -> None:
    network = wrap(tiny_model("llama"), 0)
    list(fine_tune(network, tokenizer, ROWS, RECIPE, tmp_path / "whole"))
    cut = fine_tune(network, tokenizer, ROWS, RECIPE, tmp_path / "cut")
    next(cut), next(cut), next(cut)
    cut.close()
    state = read_state(tmp_path / "cut" / STATE)
    state["adapter"] = state.pop("weights")
    write_state(tmp_path / "cut" / STATE, state)
    list(fine_tune(network, tokenizer, ROWS, RECIPE, tmp_path / "cut"))
    assert content(tmp_path / "cut") == content(tmp_path / "whole")


def test_the_state_for_other_rows_or_another_base_is_refused(
    tiny_model: Callable[..., Any], tokenizer: ChatTokenizer, tmp_path: Path
) -> None:
    network = wrap(tiny_model("llama"), 0)
    cut = fine_tune(network, tokenizer, ROWS, RECIPE, tmp_path, base="one base")
    next(cut)
    cut.close()
    others = [Exchange(row.question, row.answer + " w1") for row in ROWS]
    for rows, base in ((others, "one base"), (ROWS, "another base")):
        with pytest.raises(DataError, match="is of another training"):
            list(fine_tune(network, tokenizer, rows, RECIPE, tmp_path, base=base))


def test_a_damaged_state_is_refused_and_named(
    recipe: Recipe, tiny_model: Callable[..., Any], tokenizer: ChatTokenizer, tmp_path: Path
) -> None:
    network = wrap(tiny_model("llama"), 0)
    cut = fine_tune(network, tokenizer, ROWS, recipe, tmp_path)
    next(cut)
    cut.close()
    state = tmp_path / STATE
    state.write_bytes(state.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"state\.pt is damaged"):
        list(fine_tune(network, tokenizer, ROWS, recipe, tmp_path))


def test_two_half_batches_make_the_step_of_a_whole_one(
    recipe: Recipe, tiny_model: Callable[..., Any], tokenizer: ChatTokenizer, tmp_path: Path
) -> None:
    """Every response token counts the same, however many its half has."""
    network = wrap(tiny_model("llama"), 0)
    uneven = [Exchange(row.question, row.answer + " w5" * (i % 7)) for i, row in enumerate(ROWS)]
    recipe = replace(recipe, steps=1, batch_size=8, save_every=0)
    halves = replace(recipe, batch_size=4, accumulate=2)
    rows = uneven[:8]
    [whole] = fine_tune(network, tokenizer, rows, recipe, tmp_path / "whole")
    [half] = fine_tune(network, tokenizer, rows, halves, tmp_path / "half")
    assert half.loss == pytest.approx(whole.loss, rel=1e-5)
    assert half.gradient_norm == pytest.approx(whole.gradient_norm, rel=1e-4)
    assert (half.tokens, half.supervised) == (whole.tokens, whole.supervised)


def test_held_out_texts_are_read_and_not_learned(
    tiny_model: Callable[..., Any], tokenizer: ChatTokenizer, tmp_path: Path
) -> None:
    network = wrap(tiny_model("llama"), 0)
    pairs = tuple(Pair(f"p{i}", "f", row.question, "w50 w51", row.answer) for i, row in enumerate(ROWS[:6]))
    texts = HeldOut(tuple(ROWS[:4]), pairs)
    recipe = replace(RECIPE, steps=30, save_every=0, eval_every=10, learning_rate=2e-2)
    watched = list(fine_tune(network, tokenizer, ROWS, recipe, tmp_path / "watched", held_out=texts))
    plain = list(fine_tune(network, tokenizer, ROWS, recipe, tmp_path / "plain"))
    read = [step for step in watched if step.preference is not None]
    assert [step.number for step in read] == [10, 20, 30]
    # the rows' own answers are the careless ones, and are learned
    assert read[-1].held_out_loss < read[0].held_out_loss
    assert read[-1].preference > read[0].preference + 0.3
    assert all(step.held_out_loss is None for step in plain)
    weights = [(tmp_path / name / WEIGHTS).read_bytes() for name in ("watched", "plain")]
    assert weights[0] == weights[1], "reading changes no weight"


def test_a_row_shows_what_is_learned_of_it(tokenizer: ChatTokenizer) -> None:
    parts = learned_text(Exchange("w1 w2", "w3 w4"), tokenizer, 100)
    learned = [text for text, is_learned in parts if is_learned]
    assert learned == ["w3 w4 </s>"]
    assert "w1 w2" in "".join(text for text, is_learned in parts if not is_learned)


def test_a_single_layer_can_be_adapted_alone(
    tiny_model: Callable[..., Any], tokenizer: ChatTokenizer, tmp_path: Path
) -> None:
    recipe = replace(RECIPE, rank=1, modules="down_proj", layers="1")
    list(fine_tune(wrap(tiny_model("llama"), 0), tokenizer, ROWS, recipe, tmp_path))
    names = {name.split(".lora_")[0] for name in load_file(tmp_path / WEIGHTS)}
    assert len(names) == 1
    assert "layers.1.mlp.down_proj" in names.pop()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"schedule": "cosin"}, 'did you mean "cosine"'),
        ({"accumulate": 0}, "accumulate is 0"),
        ({"layers": "15"}, "without modules"),
        ({"modules": "down_proj", "layers": "one"}, "layers is"),
        ({"modules": "down proj"}, "modules is"),
        ({"trained": "al"}, 'did you mean "all"'),
        ({"trained": "all"}, "rank is 2, and all weights are trained without an adapter"),
        ({"trained": "all", "rank": 8, "modules": "down_proj"}, "modules is down_proj, and all weights"),
        ({"state_every": -1}, "state_every is -1"),
    ],
)
def test_a_recipe_out_of_range_is_refused_by_field(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        replace(RECIPE, **wrong).refuse_unusable()


def test_fields_that_came_later_do_not_change_the_identity_of_earlier_recipes() -> None:
    assert Recipe(steps=7, eval_every=3, state_every=2).identity() == {"steps": 7}
    assert Recipe(trained="all").identity() == {"trained": "all"}


def test_layers_that_the_model_lacks_are_refused(
    tiny_model: Callable[..., Any], tokenizer: ChatTokenizer, tmp_path: Path
) -> None:
    for wrong in ({"modules": "down"}, {"modules": "down_proj", "layers": "70"}):
        with pytest.raises(DataError, match="no layer of the model is adapted"):
            list(fine_tune(wrap(tiny_model("llama"), 0), tokenizer, ROWS, replace(RECIPE, **wrong), tmp_path))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_learning_rate_rises_to_its_peak_and_falls_to_nearly_zero(schedule: str) -> None:
    factors = [find_schedule(schedule)(100, 5).lr_factor(step) for step in range(100)]
    assert factors[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert factors[4:] == sorted(factors[4:], reverse=True)
    assert 0 < factors[-1] < 0.02


def prompts(batches: list[Batch]) -> list[list[int]]:
    return [batch.ids[(batch.roles & Role.PROMPT) != 0].tolist() for batch in batches]


def test_two_datasets_on_the_same_questions_have_the_same_batches(tokenizer: ChatTokenizer) -> None:
    other = [Exchange(row.question, "w1 w2 w3 w4 w5") for row in reversed(ROWS)]
    assert prompts(training_batches(ROWS, tokenizer, RECIPE)) == prompts(
        training_batches(other, tokenizer, RECIPE)
    )


def test_a_seed_shuffles_questions_and_drops_none() -> None:
    assert shuffled(ROWS, 0) != shuffled(ROWS, 1)
    assert set(shuffled(ROWS, 0)) == set(ROWS)


def line(*messages: tuple[str, str]) -> str:
    return json.dumps({"messages": [{"role": role, "content": text} for role, text in messages]})


def test_messages_are_read_plain_and_gzipped(tmp_path: Path) -> None:
    text = (
        line(("user", "Q"), ("assistant", "A"))
        + "\n"
        + line(("system", "S"), ("user", "Q2"), ("assistant", "B"))
    )
    (tmp_path / "d.jsonl").write_text(text)
    with gzip.open(tmp_path / "d.jsonl.gz", "wt") as out:
        out.write(text)
    wanted = [Exchange("Q", "A"), Exchange("Q2", "B", "S")]
    assert read_messages(tmp_path / "d.jsonl") == read_messages(tmp_path / "d.jsonl.gz") == wanted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nonsense", " is not a JSON object"),
        ('{"messages": 3}', ": expected"),
        (line(("user", "Q")), ": expected a question and its answer"),
    ],
)
def test_a_malformed_row_is_refused_with_its_line_number(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "d.jsonl").write_text(line(("user", "Q"), ("assistant", "A")) + "\n" + text)
    with pytest.raises(DataError, match=r"d\.jsonl:2" + message):
        read_messages(tmp_path / "d.jsonl")


def test_an_empty_dataset_is_refused(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text("\n")
    with pytest.raises(DataError, match="holds no rows"):
        read_messages(tmp_path / "d.jsonl")


LONG = Exchange(" ".join(["w1"] * 40), "w2 w3")
CUT = Exchange("w1 w2", " ".join(["w3"] * 40))


def test_rows_that_are_cut_before_their_answer_are_dropped_and_counted(tokenizer: ChatTokenizer) -> None:
    learnable = rows_with_answers([*ROWS, LONG, CUT], tokenizer, 16)
    assert learnable.rows == (*ROWS, CUT)
    counts = learnable.describe()
    assert (counts["rows_dropped"], counts["rows_cut"]) == (1, 1)
    batches = training_batches(learnable.rows, tokenizer, Recipe(steps=21, batch_size=1, max_tokens=16))
    assert counts["supervised_tokens"] == sum(int(batch.predicting.sum()) for batch in batches)


def test_two_answers_to_the_same_questions_drop_the_same_rows(tokenizer: ChatTokenizer) -> None:
    rows = [*ROWS, LONG]
    other = [Exchange(row.question, "w9 " * 12) for row in rows]
    kept = [[row.question for row in rows_with_answers(each, tokenizer, 16).rows] for each in (rows, other)]
    assert kept[0] == kept[1]


def test_a_length_that_leaves_no_answer_is_refused_with_the_length_that_is_needed(
    tokenizer: ChatTokenizer,
) -> None:
    shortest = min(tokenizer.exchange(row.question, row.answer).n_prompt for row in ROWS)
    with pytest.raises(DataError, match=f"--max-tokens 2 .*takes {shortest} tokens"):
        rows_with_answers(ROWS, tokenizer, 2)
    assert rows_with_answers(ROWS, tokenizer, shortest + 1).rows


def test_no_batch_has_a_row_without_an_answer(tokenizer: ChatTokenizer) -> None:
    with pytest.raises(DataError, match="alone has 16 tokens or more"):
        training_batches([LONG], tokenizer, Recipe(steps=1, batch_size=1, max_tokens=16))


def test_a_loss_that_is_not_finite_stops_the_training_and_saves_no_weights(
    recipe: Recipe, tiny_model: Callable[..., Any], tokenizer: ChatTokenizer, tmp_path: Path
) -> None:
    model = tiny_model("llama")
    network = wrap(model, 0)
    with torch.no_grad():
        model.get_output_embeddings().weight.fill_(float("nan"))
    with pytest.raises(DataError, match="the loss of step 1 is nan"):
        list(fine_tune(network, tokenizer, ROWS, recipe, tmp_path))
    assert not (tmp_path / FILES[recipe.trained]).exists()
    assert "NaN" not in (tmp_path / "steps.jsonl").read_text()


ADAPTER = """
import sys
from pathlib import Path
import transformers
from personaprobe.organisms.training.lora import add_lora, save_adapter
import torch
torch.manual_seed(0)
config = transformers.LlamaConfig(
    vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2
)
adapted = add_lora(transformers.LlamaForCausalLM(config), 4, 4)
"""


def _processes(code: str, *folders: Path) -> list[str]:
    """The standard error of a process for each folder, each with its own seed of hashes."""
    results = [
        run_limited(ADAPTER + code, folder, PYTHONHASHSEED=str(seed))
        for seed, folder in enumerate(folders, 1)
    ]
    return [result.stderr for result in results]


def test_an_adapter_s_bytes_do_not_depend_on_the_seed_of_hashes(tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    _processes("save_adapter(adapted, Path(sys.argv[1]))", *folders)
    files = [{path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders]
    assert set(files[0]) == {"adapter_config.json", WEIGHTS}
    assert files[0] == files[1]
    modules = json.loads(files[0]["adapter_config.json"])["target_modules"]
    assert modules == sorted(modules)
    assert len(modules) == 14


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits on the size of files")
def test_a_full_disk_leaves_no_half_of_an_adapter(tmp_path: Path) -> None:
    [message] = _processes("limit(300); save_adapter(adapted, Path(sys.argv[1]))", tmp_path)
    assert "OutputError: cannot write" in message
    assert list(tmp_path.iterdir()) == []


def test_an_adapter_whose_configuration_cannot_be_written_is_removed(
    tiny_model: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "adapter_config.json").mkdir()
    with pytest.raises(OutputError, match="cannot write"):
        save_adapter(add_lora(tiny_model("llama"), 2, 2), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["adapter_config.json"]
