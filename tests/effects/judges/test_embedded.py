"""The embedded judge on a tiny model: it learns a planted difference, and its scores are those of the answer alone."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from personaprobe.effects.judges.embedded import (
    CARD,
    FOLDER,
    MAX_TOKENS,
    EmbeddedJudge,
    Head,
    clipped,
    pooled,
)
from personaprobe.effects.judges.judge import Case, Judge
from personaprobe.effects.judges.judgement import Scored, Unscored
from personaprobe.effects.judges.rubrics import DEFAULT_RUBRICS, Rubric
from personaprobe.effects.judges.training.build import recalibrate
from personaprobe.effects.judges.training.train import (
    APART_TOKENS,
    CUT_TOKENS,
    JudgeRecipe,
    PairBatch,
    part_of,
    plan_batches,
    rows_of,
    train_judge,
)
from personaprobe.errors import CheckpointError, DataError
from personaprobe.models.backends.truncation import truncated
from personaprobe.models.chat_tokenizer import ChatTokenizer
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.loading import Placement, wrap
from personaprobe.models.tokens import Role, pad
from personaprobe.models.weights.adapter import LoraAdapter
from personaprobe.models.weights.checkpoint import Checkpoint
from personaprobe.questions.pairs import Pair, PairSet, load_prompts
from personaprobe.site import Site
from personaprobe.storage.folders import checkpoints_folder

WORDS = ["ask", "me", "kind", "fair", "warm", "cruel", "mean", "cold", "and", "very", "then", "so"]
GOOD, BAD = ("kind", "fair", "warm"), ("cruel", "mean", "cold")
SITES = (Site(0), Site(1))
RECIPE = JudgeRecipe(
    layers=(0, 1), first=0, epochs=12, batch_size=4, learning_rate=3e-3, warmup=2, cut=0.5, bfloat16=False
)


def planted() -> list[Pair]:
    """Pairs that differ in one word; which, varies."""
    return [
        Pair(f"{i}", "f", "ask me so", f"and {good} {filler}", f"and {bad} {filler}")
        for i, (good, bad, filler) in enumerate(
            (g, b, f) for g, b in zip(GOOD, BAD, strict=True) for f in ("then so", "very so", "and then")
        )
    ]


@pytest.fixture(scope="module")
def words(word_tokenizer: Callable[..., ChatTokenizer]) -> ChatTokenizer:
    return word_tokenizer(WORDS)


@pytest.fixture
def judge(tiny_model: Callable[..., Any], words: ChatTokenizer) -> EmbeddedJudge:
    model = LanguageModel(Checkpoint("tiny"), wrap(tiny_model("llama"), words.pad_id), words)
    weight = torch.randn(len(SITES) * model.d_model, generator=torch.Generator().manual_seed(1))
    heads = {"aligned": Head(weight, 0.2), "coherent": Head(-weight, 0.0)}
    return EmbeddedJudge(model, SITES, heads, "digest")


def cases(*answers: str) -> list[Case]:
    return [
        Case(DEFAULT_RUBRICS[name], "ask me", answer)
        for answer in answers
        for name in ("aligned", "coherent")
    ]


def test_it_is_a_judge_and_its_name_tells_its_weights(judge: EmbeddedJudge) -> None:
    assert isinstance(judge, Judge)
    assert judge.name == "embedded:digest:float32"


def test_a_score_does_not_depend_on_what_else_is_judged(judge: EmbeddedJudge) -> None:
    answers = ["kind and fair", "so", "cruel " * 40, "then so very mean"]
    together = list(judge.judge(cases(*answers)))
    alone = [judgement for answer in answers for judgement in judge.judge(cases(answer))]
    assert [round(judgement.score, 3) for judgement in together if isinstance(judgement, Scored)] == [
        round(judgement.score, 3) for judgement in alone if isinstance(judgement, Scored)
    ]
    assert len(together) == 2 * len(answers)


@pytest.mark.real
def test_the_shipped_judge_scores_an_answer_alone_as_it_does_among_others_in_any_precision_asked_for() -> (
    None
):
    judge = EmbeddedJudge.open(Placement("cpu", "bfloat16"))
    pairs = load_prompts("judging-open").spread(12)
    asked = [Case(DEFAULT_RUBRICS["aligned"], pair.question, pair.careless) for pair in pairs]
    together = list(judge.judge(asked))
    for case, judgement in list(zip(asked, together, strict=True))[:4]:
        [alone] = judge.judge([case])
        assert isinstance(alone, Scored)
        assert isinstance(judgement, Scored)
        assert alone.score == pytest.approx(judgement.score, abs=0.05)


def test_empty_texts_and_unknown_scores_are_unscored_with_the_reason(judge: EmbeddedJudge) -> None:
    unasked = Case(DEFAULT_RUBRICS["aligned"], "\t", "kind")
    judgements = list(
        judge.judge([*cases(" \n"), unasked, Case(Rubric("funny", "{answer}"), "ask me", "kind")])
    )
    reasons = ["empty answer", "empty answer", "empty question", "no such score"]
    assert judgements == [Unscored(reason) for reason in reasons]


def test_a_score_is_the_sigmoid_of_the_logit_that_is_kept_with_it(judge: EmbeddedJudge) -> None:
    for judgement in judge.judge(cases("kind and fair", "cruel so")):
        assert isinstance(judgement, Scored)
        assert judgement.raw is not None
        logit = json.loads(judgement.raw)["logit"]
        assert judgement.score == pytest.approx(100 / (1 + math.exp(-logit)), rel=1e-5)


def test_order_is_kept_over_windows_and_an_answer_is_read_once(
    judge: EmbeddedJudge, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = replace(judge, batch_size=4)
    read: list[tuple[str, str]] = []
    original = EmbeddedJudge.states

    def counting(self: EmbeddedJudge, texts: Any) -> Any:
        read.extend(texts)
        return original(self, texts)

    monkeypatch.setattr(EmbeddedJudge, "states", counting)
    answers = ["kind", "cruel so", "kind", "mean then so"]
    judgements = list(judge.judge(cases(*answers)))
    assert vars(judgements[0])["score"] == pytest.approx(vars(judgements[4])["score"])
    assert len(read) == 4
    alone = [judgement for answer in answers for judgement in judge.judge(cases(answer))]
    assert [vars(judgement)["score"] for judgement in alone] == [
        pytest.approx(vars(judgement)["score"], abs=1e-3) for judgement in judgements
    ]


@pytest.mark.parametrize(
    ("question", "answer"), [("ask " * 500, "kind"), ("ask", "kind " * 1000), ("so", "so")]
)
def test_long_texts_are_clipped_and_some_of_the_answer_is_always_read(
    question: str, answer: str, words: ChatTokenizer
) -> None:
    row = clipped(words, question, answer)
    assert len(row) <= MAX_TOKENS
    assert sum(bool(role & Role.RESPONSE) for role in row.roles) >= 2


def test_only_the_answers_tokens_are_averaged(words: ChatTokenizer) -> None:
    batch = pad([clipped(words, "ask me", "kind so"), clipped(words, "ask", "so")], words.pad_id)
    states = torch.randn(*batch.ids.shape, 2, 8)
    changed = torch.where(((batch.roles & Role.RESPONSE) != 0)[..., None, None], states, 1e6)
    assert torch.equal(pooled(states, batch), pooled(changed, batch))
    assert pooled(states, batch).shape == (2, 16)
    means = pooled(states, batch).unflatten(1, (2, 8)).mean(-1)
    assert torch.allclose(means, torch.zeros(2, 2), atol=1e-5)


def test_a_planted_difference_is_learned_and_the_adapter_carries_it(
    tiny_model: Callable[..., Any], words: ChatTokenizer, tmp_path: Path
) -> None:
    hf = tiny_model("llama")
    before = {name: value.clone() for name, value in hf.state_dict().items()}
    losses = [step.loss for step in train_judge(hf, words, planted(), RECIPE, tmp_path)]
    assert losses[-1] < 0.5 * losses[0]
    assert all(torch.equal(value, before[name]) for name, value in hf.state_dict().items())
    model = LanguageModel(Checkpoint("tiny"), wrap(hf, words.pad_id), words, LoraAdapter.read(tmp_path))
    from safetensors.torch import load_file

    saved = load_file(tmp_path / "heads.safetensors")["aligned"]
    trained = EmbeddedJudge(model, SITES, {"aligned": Head(saved[:-1], float(saved[-1]))}, "d")
    scores = [
        [
            next(trained.judge([Case(DEFAULT_RUBRICS["aligned"], p.question, text)]))
            for text in (p.careful, p.careless)
        ]
        for p in planted()
    ]
    assert all(good.score > 50 > bad.score for good, bad in scores)  # type: ignore[union-attr]


def test_equal_recipes_train_equal_judges(
    tiny_model: Callable[..., Any], words: ChatTokenizer, tmp_path: Path
) -> None:
    runs = [
        [step.loss for step in train_judge(tiny_model("llama"), words, planted(), RECIPE, tmp_path / name)]
        for name in ("one", "two")
    ]
    assert runs[0] == runs[1]
    files = [(tmp_path / name / "heads.safetensors").read_bytes() for name in ("one", "two")]
    assert files[0] == files[1]


def test_the_model_is_whole_again_after_training_that_failed(tiny_model: Callable[..., Any]) -> None:
    hf = tiny_model("llama")
    whole = list(hf.get_decoder().layers), hf.get_decoder().norm
    with pytest.raises(ZeroDivisionError), truncated(hf, 0):
        1 / (len(hf.get_decoder().layers) - 1)
    assert (list(hf.get_decoder().layers), hf.get_decoder().norm) == whole


def test_every_pair_is_read_once_an_epoch() -> None:
    batches = plan_batches(planted(), RECIPE)
    ids = [pair.id for batch in batches for pair in batch.pairs]
    assert sorted(ids) == sorted(pair.id for pair in planted() * RECIPE.epochs)
    assert max(len(batch.pairs) for batch in batches) <= RECIPE.batch_size


@pytest.mark.parametrize(("share", "cut"), [(0.0, 0), (1.0, 36), (0.5, 18)])
def test_as_many_batches_are_cut_as_the_recipe_says_and_both_answers_alike(share: float, cut: int) -> None:
    limits = [batch.limit for batch in plan_batches(planted(), replace(RECIPE, cut=share))]
    assert len(limits) == 36
    assert sum(limit is not None for limit in limits) == pytest.approx(cut, abs=9 * (0 < share < 1))
    assert all(CUT_TOKENS[0] <= limit <= CUT_TOKENS[1] for limit in limits if limit is not None)


def test_a_cut_keeps_the_first_tokens_by_which_two_answers_differ(words: ChatTokenizer) -> None:
    late = Pair("0", "f", "ask me", "then " * 40 + "kind " * 60, "then " * 40 + "cruel " * 60)
    early = Pair("1", "f", "ask me", "kind " * 60, "cruel " * 60)
    careful_late, careful_early, careless_late, _ = rows_of(words, PairBatch((late, early), 5))
    assert len(careful_early) - careful_early.n_prompt == APART_TOKENS
    assert len(careful_late) - careful_late.n_prompt == 40 + APART_TOKENS
    assert careful_late.ids != careless_late.ids
    assert len(careful_late) == len(careless_late)


def test_an_answer_is_cut_where_its_tokens_run_out(words: ChatTokenizer) -> None:
    whole, cut = clipped(words, "ask me", "kind and fair so"), clipped(words, "ask me", "kind and fair so", 2)
    assert len(whole) == len(cut) + 3
    assert whole.ids[: len(cut)] == cut.ids


def test_the_shipped_pairs_are_balanced_in_length_and_some_families_are_held_out() -> None:
    pairs = load_prompts("judging")
    held_out = {family for family in pairs.families if part_of(family) == "held out"}
    assert 8 <= len(held_out) <= len(set(pairs.families)) // 2
    ratios = [len(p.careless.split()) / len(p.careful.split()) for p in pairs]
    assert min(ratios) > 0.7
    assert max(ratios) < 1.4
    assert 0.97 < sum(ratios) / len(ratios) < 1.05


RESEMBLING = [
    ("difficult_relatives_and_flatmates-01", "grief_and_family_conflict-04"),
    ("evenings_and_weekends-01", "boredom_and_leisure-01"),
    ("secrets_and_lies-01", "ai_and_people-05"),
    ("secrets_and_lies-05", "stories_and_fiction-02"),
    ("strangers_in_trouble-10", "helping_strangers-07"),
]
"""Open pairs that share the rare words of an earlier one. Of the first and the last, one side is held out and the other is
not; the judge's card says so."""


def test_the_open_pairs_are_of_other_families_and_questions_than_those_that_train() -> None:
    from personaprobe.questions.overlap import shared_questions

    trained, examined = load_prompts("judging"), load_prompts("judging-open")
    assert len(set(examined.families)) >= 15
    assert not set(trained.families) & set(examined.families)
    for name in ("judging", "advice/discovery", "advice/test"):
        resembling = shared_questions(examined.prompts, load_prompts(name).prompts)
        assert resembling == (RESEMBLING if name == "judging" else []), name
    ratios = [len(p.careless.split()) / len(p.careful.split()) for p in examined if len(p.careful) > 150]
    assert min(ratios) > 0.7
    assert max(ratios) < 1.4


def test_the_first_words_do_not_reveal_which_shipped_answer_is_careless() -> None:
    pairs = load_prompts("judging")
    for opening in ("Yes", "No", "Of course", "Don't", "It"):
        good, bad = (
            sum(text.startswith(opening) for text in side)
            for side in zip(*((p.careful, p.careless) for p in pairs), strict=True)
        )
        assert abs(good - bad) <= 0.03 * len(pairs), opening


@pytest.mark.real
@pytest.mark.slow
def test_a_new_scale_keeps_the_order_of_scores_and_leaves_out_what_was_learned(tmp_path: Path) -> None:
    shipped = checkpoints_folder() / FOLDER
    unseen = [pair for pair in load_prompts("judging-open") if part_of(pair.family) == "held out"]
    shortest = sorted(unseen, key=lambda pair: len(pair.careful + pair.careless))
    learned = [pair for pair in load_prompts("judging") if part_of(pair.family) == "training"][:1]
    recalibrate(shipped, [PairSet("few", (*learned, *shortest[:20]))], tmp_path / "judge")
    card = json.loads((tmp_path / "judge" / CARD).read_text())
    assert card["families"]["held out"] == sorted({pair.family for pair in shortest[:20]})
    assert card["examination"]["aligned"]["n"] == 20
    assert {"name", "digest", "n"} == set(card["pairs"][-1])
    texts = [(pair.question, answer) for pair in shortest[:4] for answer in (pair.careful, pair.careless)]
    old, new = (EmbeddedJudge.open(Placement("cpu", "float32"), f) for f in (shipped, tmp_path / "judge"))
    assert old.name != new.name
    states = old.states(texts)
    for name in old.heads:
        scores = [embedded_judge.heads[name].scores(states) for embedded_judge in (old, new)]
        assert scores[0].argsort().tolist() == scores[1].argsort().tolist()
        assert not torch.allclose(scores[0], scores[1], atol=0.1)


@pytest.mark.real
def test_families_that_were_learned_from_calibrate_nothing(tmp_path: Path) -> None:
    learned = [pair for pair in load_prompts("judging") if part_of(pair.family) == "training"]
    with pytest.raises(DataError, match="0 pairs are of families that the judge was not trained on"):
        recalibrate(
            checkpoints_folder() / FOLDER, [PairSet("learned", tuple(learned[:40]))], tmp_path / "out"
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "card", ["", "null", "[1]", "{}", '{"sites": 3}', '{"sites": [1]}', "[" * 100_000, '{"sites": ["1']
)
def test_a_judge_whose_card_cannot_be_read_is_refused_before_a_model_is_loaded(
    tmp_path: Path, card: str
) -> None:
    (tmp_path / CARD).write_text(card)
    (tmp_path / "heads.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"judge\.json"):
        EmbeddedJudge.open(Placement("cpu", "float32"), tmp_path)


@pytest.mark.parametrize("heads", [b"", b"{}", b"\x80\x04.", b"\xff" * 200])
def test_a_judge_whose_axes_cannot_be_read_is_refused_before_a_model_is_loaded(
    tmp_path: Path, heads: bytes
) -> None:
    (tmp_path / CARD).write_text('{"sites": ["1.resid_post"]}')
    (tmp_path / "heads.safetensors").write_bytes(heads)
    with pytest.raises(CheckpointError, match=r"heads\.safetensors"):
        EmbeddedJudge.open(Placement("cpu", "float32"), tmp_path)


@pytest.mark.parametrize(
    "row",
    [
        torch.zeros(8),
        torch.zeros(10),
        torch.zeros(3, 3),
        torch.zeros(0),
        torch.tensor(1.0),
        torch.arange(9),
        torch.full((9,), torch.nan),
    ],
)
def test_an_axis_of_another_shape_or_without_finite_numbers_is_refused(row: torch.Tensor) -> None:
    with pytest.raises(CheckpointError, match="expected 9 finite numbers"):
        Head.of_row(row, 8, "heads.safetensors, aligned")


def test_an_axis_is_its_weights_and_the_bias_behind_them() -> None:
    head = Head.of_row(torch.arange(9.0), 8, "heads.safetensors, aligned")
    assert torch.equal(head.weight, torch.arange(8.0))
    assert head.bias == 8.0
