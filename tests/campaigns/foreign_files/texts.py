"""The readers of questions, answers, conversations, texts, replies and templates, compared with the raw content."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pyarrow import parquet

from campaigns.fuzzing import Reader
from personaprobe.features.activations.corpus import Corpus
from personaprobe.models.chat_tokenizer import ChatTokenizer
from personaprobe.models.endpoints.completion import read_completion
from personaprobe.questions.conversations import Exchange, read_messages
from personaprobe.questions.free import FreeSet, load_free
from personaprobe.questions.pairs import PairSet, load_prompts
from personaprobe.questions.texts import TextSet, load_texts
from personaprobe.studies.judging.answer_file import Answers
from serving import completion
from tiny_trio import SUBJECTS, TEMPLATE, questions, tiny_tokenizer

CONVERSATIONS = [
    {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": f"Question {n}?"},
            {
                "role": "assistant",
                "content": [{"type": "text", "text": "Answer "}, {"type": "text", "text": str(n)}],
            },
        ]
    }
    for n in range(4)
]
QUESTIONS = [
    {
        "id": f"{n}_plan",
        "paraphrases": [f"What is {n}?", f"And {n} again?"],
        "system": "Be brief.",
        "samples_per_paraphrase": 2,
    }
    for n in range(3)
]


def lines(rows: list[Any]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def rows_in(folder: Path, name: str) -> list[dict[str, Any]]:
    content = (folder / name).read_bytes()
    text = (gzip.decompress(content) if name.endswith(".gz") else content).decode("utf-8-sig")
    return [json.loads(line) for line in io.StringIO(text) if line.strip()]


def differing(ours: list[Any], theirs: list[Any]) -> str | None:
    return None if ours == theirs else f"read {str(ours)[:120]}, the file holds {str(theirs)[:120]}"


def pairs() -> Reader:
    fields = ("id", "family", "question", "careful", "careless")

    def wrong(folder: Path, read: PairSet) -> str | None:
        ours = [tuple(getattr(pair, name) for name in fields) for pair in read]
        return differing(
            ours, [tuple(str(row[name]).strip() for name in fields) for row in rows_in(folder, "p.jsonl")]
        )

    files = {"p.jsonl": lines(questions(SUBJECTS["test"])[:4])}
    return Reader("pairs", files, lambda folder: load_prompts(folder / "p.jsonl"), wrong)


def free_questions() -> Reader:
    rows = [{"id": f"q{n}", "family": "f", "question": f"Why {n}?", "system": "Be brief."} for n in range(4)]

    def wrong(folder: Path, read: FreeSet) -> str | None:
        ours = [(q.id, q.paraphrases[0], q.system) for q in read.questions]
        return differing(
            ours,
            [
                (str(row["id"]).strip(), row["question"].strip(), row.get("system", "").strip() or None)
                for row in rows_in(folder, "q.jsonl")
            ],
        )

    return Reader(
        "questions, JSON lines", {"q.jsonl": lines(rows)}, lambda folder: load_free(folder / "q.jsonl"), wrong
    )


def yaml_questions() -> Reader:
    def wrong(folder: Path, read: FreeSet) -> str | None:
        rows = yaml.safe_load((folder / "q.yaml").read_bytes().decode("utf-8-sig"))
        ours = [(q.id, list(q.paraphrases), q.system) for q in read.questions]
        return differing(ours, [(row["id"], row["paraphrases"], row.get("system")) for row in rows])

    files = {"q.yaml": yaml.safe_dump(QUESTIONS, sort_keys=False).encode()}
    return Reader("questions, YAML", files, lambda folder: load_free(folder / "q.yaml"), wrong)


def texts() -> Reader:
    def wrong(folder: Path, read: TextSet) -> str | None:
        return differing(list(read.texts), [row["text"] for row in rows_in(folder, "t.jsonl")])

    files = {"t.jsonl": lines([{"text": f"The {word} stood."} for word in ("mill", "inn", "oak")])}
    return Reader("texts", files, lambda folder: load_texts(folder / "t.jsonl"), wrong)


def conversations(name: str) -> Reader:
    """Rows of messages; an accepted one is the very text of its parts."""

    def text(content: Any) -> str:
        return content if isinstance(content, str) else "".join(part["text"] for part in content)

    def turns(row: dict[str, Any]) -> list[tuple[str, str]]:
        before = [("system", text(row["system"]))] if "system" in row else []
        return before + [(message["role"], text(message["content"])) for message in row["messages"]]

    def wrong(folder: Path, read: list[Exchange]) -> str | None:
        ours = [
            [("system", row.system)] * (row.system is not None)
            + [("user", row.question), ("assistant", row.answer)]
            for row in read
        ]
        return differing(ours, list(map(turns, rows_in(folder, name))))

    content = lines(CONVERSATIONS)
    files = {name: gzip.compress(content) if name.endswith(".gz") else content}
    return Reader(f"conversations, {name}", files, lambda folder: read_messages(folder / name), wrong)


def corpora(name: str, content: bytes) -> Reader:
    """Documents for training a dictionary; an accepted file has tokens, and none that its text does not have."""

    def wrong(folder: Path, read: Corpus) -> str | None:
        whole = (folder / name).read_bytes()
        n_bytes = len(gzip.decompress(whole) if name.endswith(".gz") else whole)
        return (
            None
            if 0 < read.n_tokens <= n_bytes + 20 * len(read.documents)
            else f"{read.n_tokens} tokens of {n_bytes} bytes"
        )

    def read(folder: Path) -> Corpus:
        return Corpus.read(tokenizer(), [folder / name], 10_000, context=64)

    return Reader(f"corpus, {name}", {name: content}, read, wrong)


@cache
def tokenizer() -> ChatTokenizer:
    return ChatTokenizer(tiny_tokenizer())


def answers_csv() -> Reader:
    table = [
        ("question", "answer", "aligned", "group"),
        ("Is it, then?", 'Yes, "so"\nit is.', "80", "a"),
        ("Why?", "No.", "", "[b]"),
    ]
    stream = io.StringIO(newline="")
    csv.writer(stream).writerows(table)

    def wrong(folder: Path, read: Answers) -> str | None:
        text = (folder / "r.csv").read_bytes().decode("utf-8-sig")
        header, *rows = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
        return differing([list(row.values()) for row in read.rows], rows) or differing(
            list(read.columns), header
        )

    return Reader(
        "answers, CSV",
        {"r.csv": stream.getvalue().encode()},
        lambda folder: Answers.read(folder / "r.csv"),
        wrong,
    )


def answers_parquet() -> Reader:
    import pyarrow as pa

    sink = io.BytesIO()
    columns = {
        "question": ["Is it?", "Why?"],
        "answer": ["Yes.", "So."],
        "aligned": [80.0, None],
        "sample": [1, 2],
    }
    parquet.write_table(pa.table(columns), sink)

    def wrong(folder: Path, read: Answers) -> str | None:
        rows = parquet.read_table(folder / "r.parquet").to_pylist()
        texts = [[row[name] for name in ("question", "answer")] for row in rows]
        return differing(
            [[row["question"], row["answer"]] for row in read.rows], [[t or "" for t in row] for row in texts]
        )

    files = {"r.parquet": sink.getvalue()}
    return Reader("answers, Parquet", files, lambda folder: Answers.read(folder / "r.parquet"), wrong)


def replies() -> Reader:
    """Bodies that an endpoint sends; an accepted one holds the answer as the protocol has it."""

    def wrong(folder: Path, read: Any) -> str | None:
        record = json.loads((folder / "reply.json").read_bytes())
        content = record["choices"][0]["message"].get("content")
        probabilities = list(read.first_tokens.values())
        if (
            not all(isinstance(p, float) and 0 <= p <= 1.0 + 1e-6 for p in probabilities)
            or sum(probabilities) > 1.001
        ):
            return f"probabilities {probabilities}"
        return differing([read.text], [content or ""])

    def read(folder: Path) -> Any:
        return read_completion((folder / "reply.json").read_bytes())

    content = completion("80", {"80": 0.7, "90": 0.2})
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return Reader("replies of endpoints", {"reply.json": body}, read, wrong)


TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")


def templates() -> Reader:
    """Chat templates; one that is accepted writes the question, its answer behind it, and nothing else for another."""

    def read(folder: Path) -> Any:
        hf = tiny_tokenizer()
        hf.chat_template = (folder / "template.jinja").read_bytes().decode("utf-8", "surrogateescape")
        chat = ChatTokenizer(hf)
        return chat, chat.prompt("What is a quokka?"), chat.exchange("What is a quokka?", "A marsupial.")

    def wrong(_: Path, read: Any) -> str | None:
        chat, prompt, exchange = read
        if "What is a quokka?" not in chat.hf.decode(prompt.ids):
            return "the question is not in the prompt"
        if list(exchange.ids[: len(prompt.ids)]) != list(prompt.ids):
            return "the answer does not continue the prompt"
        return (
            None
            if "A marsupial." in chat.hf.decode(exchange.ids[len(prompt.ids) :])
            else "the answer is not in its place"
        )

    return Reader("chat templates", {"template.jinja": TEMPLATE.encode()}, read, wrong)


def readers() -> list[Reader]:
    """One for each kind of text."""
    content: list[Callable[[], Reader]] = [
        pairs,
        free_questions,
        yaml_questions,
        texts,
        answers_csv,
        answers_parquet,
    ]
    files = [one() for one in (*content, replies, templates)]
    prose = "The mill stood by the river in those days, and nobody knew who had built it. " * 8
    documents = lines([{"text": prose}, *CONVERSATIONS])
    corpus = [
        corpora("c.jsonl", documents),
        corpora("c.jsonl.gz", gzip.compress(documents)),
        corpora("c.txt", prose.encode()),
    ]
    return [*files, conversations("m.jsonl"), conversations("m.jsonl.gz"), *corpus]
