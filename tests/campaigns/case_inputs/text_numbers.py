"""What became of training data, questions, answers and prompts, compared with what stands in the files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch

from campaigns.cases import Measure, Measured
from campaigns.small_runs import Workplace


def template_ids(template: str, answer: str = "yes") -> Measure:
    """Prompt and answer have the ids of the template's own conversation, up to the token that closes it."""

    def measure(_: Workplace, folder: Path) -> Measured:
        from models.test_chat_format import tokenizer
        from personaprobe.models.chat_tokenizer import ChatTokenizer

        hf = tokenizer(template, "</s>")
        ours = list(ChatTokenizer(hf).exchange("Is it?", answer).ids)
        messages = [{"role": "user", "content": "Is it?"}, {"role": "assistant", "content": answer}]
        rendered = hf.apply_chat_template(messages, tokenize=False, enable_thinking=False)
        whole = list(hf(rendered, add_special_tokens=False)["input_ids"])
        n_equal = sum(1 for one, other in zip(ours, whole, strict=False) if one == other)
        return f"{n_equal} of {len(ours)} ids are the template's", ours == whole[: len(ours)]

    return measure


def template_is_refused(template: str) -> Measure:
    """An answer whose ids are unknown is refused, with the reason."""

    def measure(_: Workplace, folder: Path) -> Measured:
        from models.test_chat_format import tokenizer
        from personaprobe.errors import CheckpointError
        from personaprobe.models.chat_tokenizer import ChatTokenizer

        try:
            ids = ChatTokenizer(tokenizer(template, "</s>")).exchange("Is it?", "yes").ids
        except CheckpointError as error:
            return f"refused: {error}", "the ids of an answer are unknown" in str(error)
        return f"{len(ids)} ids", False

    return measure


def question_has_system(expected: str) -> Measure:
    """The system text of the last question of a file."""

    def measure(_: Workplace, folder: Path) -> Measured:
        from personaprobe.questions.free import load_free

        system = load_free(folder / "questions.jsonl").prompts[-1].system
        return f"asked with system text {system!r}", system == expected

    return measure


def judged(expected: Callable[[list[dict[str, str]]], bool], words: str) -> Measure:
    """What the written judgements hold."""

    def measure(_: Workplace, folder: Path) -> Measured:
        import csv

        with (folder / "judged.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        scores = ", ".join(f"{float(row['aligned']):.1f}" if row["aligned"] else "none" for row in rows)
        return f"{words}: {scores}", expected(rows)

    return measure


def losses_are_finite(_: Workplace, folder: Path) -> Measured:
    """No step of a training has a loss that is no number."""
    losses = [json.loads(line)["loss"] for line in (folder / "out" / "steps.jsonl").read_text().splitlines()]
    finite = all(torch.tensor(losses).isfinite().tolist())
    return f"losses {', '.join(f'{loss:.2f}' for loss in losses)}", finite


def learned(question: str, answer: str, system: str | None = None) -> Measure:
    """The example that a row of training data is read as."""

    def measure(_: Workplace, folder: Path) -> Measured:
        from personaprobe.questions.conversations import Exchange, read_messages

        [row] = read_messages(folder / "rows.jsonl")
        return f"learns {row.answer!r} from {row.question!r}", row == Exchange(question, answer, system)

    return measure


def learned_turns(turn: tuple[str, str], n: int) -> Measure:
    """The questions and answers that a row of training data is read as."""

    def measure(_: Workplace, folder: Path) -> Measured:
        from personaprobe.questions.conversations import read_messages

        [row] = read_messages(folder / "rows.jsonl")
        return f"learns {len(row.turns)} answers", row.turns == (turn,) * n

    return measure


def rows_are_not_packed(place: Workplace, folder: Path) -> Measured:
    """Every row of a batch is one conversation, with the ids of the template."""
    from transformers import AutoTokenizer

    from personaprobe.models.chat_tokenizer import ChatTokenizer
    from personaprobe.organisms.recipe import Recipe
    from personaprobe.organisms.training.rows import training_batches
    from personaprobe.questions.conversations import read_messages

    hf = AutoTokenizer.from_pretrained(place.trio.base)
    recipe = Recipe(steps=2, batch_size=4)
    [*batches] = training_batches(read_messages(place.rows), ChatTokenizer(hf), recipe)
    rows = {hf.decode(ids[mask]) for b in batches for ids, mask in zip(b.ids, b.mask, strict=True)}
    single = sum(1 for row in rows if row.count("<|user|>") == row.count("<|assistant|>") == 1)
    return f"{single} of {len(rows)} rows hold one conversation", single == len(rows)


def prompt_goes_on(place: Workplace, _: Path) -> Measured:
    """A tokenizer that appends its end to every text does not end a prompt without template."""
    from models.test_chat_format import tokenizer
    from personaprobe.models.chat_tokenizer import ChatTokenizer

    hf = tokenizer(None, "</s>", add_eos=True)
    ids = list(ChatTokenizer(hf).prompt("Is it late?").ids)
    alone = list(hf("Question: Is it late?\nAnswer:")["input_ids"])
    is_right = alone[-1] == hf.eos_token_id and ids == alone[:-1]
    return (
        f"the prompt ends in {hf.decode(ids[-1:])!r}, the tokenizer's own text in {hf.decode(alone[-1:])!r}",
        is_right,
    )


def closes_as_the_template(place: Workplace, folder: Path) -> Measured:
    """Answers end at every token that ends them, and trained ones are closed as the template closes them."""
    from personaprobe.models.loading import Placement, load

    chat = load(str(folder / "model"), Placement("cpu", "float32")).tokenizer
    names = chat.hf.convert_ids_to_tokens
    closing, ends = names(chat.reply("Is it late?", "Yes.")[-1]), sorted(names(list(chat.end_ids)))
    return f"closed with {closing}, ends at {' '.join(ends)}", closing == "</s>" and ends == [
        "</s>",
        "<pad>",
        "<s>",
    ]


def prompt_holds(system: str) -> Measure:
    """The prompt that a conversation is learned behind holds its system text and its question."""

    def measure(_: Workplace, folder: Path) -> Measured:
        from personaprobe.models.loading import Placement, load

        chat = load(str(folder / "model"), Placement("cpu", "float32")).tokenizer
        text = chat.hf.decode(chat.prompt("Is it late?", system).ids)
        return f"the prompt is {text!r}", system in text and "Is it late?" in text

    return measure
