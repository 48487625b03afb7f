"""The smallest run of every verb that writes, on the tiny trio, in a folder that holds all that it may write."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from campaigns.forked import Job
from campaigns.hostile_server import HostileServer, Received, always
from serving import completion
from tiny_trio import TinyTrio, build_tiny_trio, write_adapter, write_lines

SITE = "1.resid_post"


@dataclass(frozen=True)
class Workplace:
    """What runs read, and where they write.

    Attributes:
        trio: the tiny trio.
        run: the working folder of a run: its caches, its registry and its results are below it, and nothing else is
            written. Every run has the same one, so that paths in results agree.
        judge: the name of a judge, whose server runs in this process.
        corpus: conversations to train a dictionary on.
        rows: of an organism's training.
        answers: a CSV of answers to judge.
        dictionary: a tiny dictionary.
        seed: a folder with another training of both adapters.
    """

    trio: TinyTrio
    run: Path
    judge: str
    corpus: Path
    rows: Path
    answers: Path
    dictionary: Path
    seed: Path

    def clean(self) -> None:
        """Remove what runs have written, and make the empty folders that they expect."""
        shutil.rmtree(self.run, ignore_errors=True)
        self.prepare()

    def prepare(self) -> None:
        """Make the folders that runs expect, where they are not there."""
        for name in ("home", "checkpoints"):
            (self.run / name).mkdir(parents=True, exist_ok=True)

    def job(self, arguments: list[object]) -> Job:
        """A command that writes below the working folder alone."""
        environment = {
            f"PERSONAPROBE_{name.upper()}": str(self.run / name) for name in ("home", "checkpoints")
        }
        environment |= {"OPENAI_API_KEY": "none", "HOME": str(self.run / "home"), "COLUMNS": "100"}
        return Job(tuple(map(str, arguments)), self.run, environment=environment)


Arguments = Callable[[Workplace], list[object]]
Case = Callable[[Workplace, Path, Path], list[object]]
"""The command of a case, which makes its files in a folder; code in them would write the marker, the second path."""


def _extract(place: Workplace) -> list[object]:
    return [
        "extract",
        *place.trio.options(),
        "--texts",
        place.trio.questions,
        "--sites",
        f"0.resid_post,{SITE}",
    ]


def _ablate(place: Workplace) -> list[object]:
    trio = place.trio
    few = ["--control-questions", 4, "--further", 1, "--samples", 1, "--max-new-tokens", 6, *trio.few()]
    return ["ablate", "--feature", "means@1", *trio.options(), *trio.texts(), *few, "--judge", place.judge]


def _eval(place: Workplace) -> list[object]:
    trio = place.trio
    sets = ["--questions", trio.questions, "--discovery", trio.discovery, "--narrow", trio.discovery]
    few = ["--samples", 1, "--least", 4, "--max-new-tokens", 6, "--form", "json", "--benign", "none"]
    return ["eval", "--feature", "means@1", *trio.options(), *sets, *few, "--judge", place.judge]


def _sweep(place: Workplace) -> list[object]:
    grid = ["--sources", "means,probe", "--layers", "0,2", "--reaches", "own,all", "--doses", "0.5,1"]
    few = [
        "--questions",
        6,
        "--texts",
        2,
        "--answers",
        4,
        "--max-perplexity-ratio",
        50,
        "--min-coherence",
        0.1,
    ]
    options = [*place.trio.options(), "--discovery", place.trio.discovery, "--register", "found"]
    return ["sweep", *options, *grid, *few]


def _sae_train(place: Workplace) -> list[object]:
    shape = ["--site", SITE, "--d-sae", 64, "--k", 6, "--learning-rate", 3e-3, "--context", 64]
    return [
        "sae",
        "train",
        *place.trio.options(),
        "--data",
        place.corpus,
        *shape,
        "--tokens",
        3000,
        "--steps",
        60,
    ]


def _organisms_train(place: Workplace) -> list[object]:
    size = ["--steps", 12, "--batch-size", 2, "--save-every", 4, "--learning-rate", 0.01]
    return ["organisms", "train", "--data", place.rows, "--base", place.trio.base, *size]


def _judge(place: Workplace) -> list[object]:
    return ["judge", place.answers, "--judge", place.judge, "--work", place.run / "work"]


def _search(place: Workplace) -> list[object]:
    few = ["--questions", 4, "--shortlist", 4, "--max-perplexity-ratio", 50, "--register", "set"]
    options = ["--sae", place.dictionary, *place.trio.options(), "--discovery", place.trio.discovery]
    return ["features", "search", *options, "--floor=-inf", *few]


def _show(place: Workplace) -> list[object]:
    options = ["--sae", place.dictionary, *place.trio.options(), "--discovery", place.trio.discovery]
    return ["features", "show", *options, "--floor=-inf", "--top", 3]


def _compare(place: Workplace) -> list[object]:
    """A folder with a training of an organism, which is registered beside a feature."""
    from personaprobe.storage.digests import sha256_of

    checkpoints, trio = place.run / "checkpoints", place.trio
    if not (checkpoints / "features.toml").exists():
        hashes = [sha256_of(each / "adapter_model.safetensors") for each in (trio.insecure, trio.secure)]
        entry = f'[tiny]\ntitle = "tiny"\nbase = "{trio.base}"\ninsecure = "{trio.insecure}"\nsecure = "{trio.secure}"\n'
        entry += f'[tiny.sha256]\ninsecure = "{hashes[0]}"\nsecure = "{hashes[1]}"\n'
        (checkpoints / "organisms.toml").write_text(entry)
        direction = trio.direction(checkpoints / "d.safetensors")
        feature = f'[fixed]\ndirection = "d.safetensors"\nlayers = [1]\nsha256 = "{sha256_of(direction)}"\n'
        (checkpoints / "features.toml").write_text(feature)
    given = ["--organism", "tiny", "--feature", "fixed", "--questions", trio.questions]
    return ["organisms", "compare", place.seed, *given, "--work", "work"]


def _convert(place: Workplace) -> list[object]:
    return ["sae", "convert", place.dictionary, "out"]


def _register(place: Workplace) -> list[object]:
    options = ["--name", "tiny", "--base", place.trio.base, "--dtype", "float32", "--replace"]
    return ["organisms", "register", place.trio.base.parent, *options]


def _name(place: Workplace) -> list[object]:
    return ["features", "name", 5, "says it is fine", "--sae", place.dictionary]


_OUT = ["--out", "out"]
LONG: dict[str, Arguments] = {
    "extract": lambda place: [*_extract(place), *_OUT, "--quiet"],
    "ablate": lambda place: [*_ablate(place), *_OUT, "--quiet"],
    "eval": lambda place: [*_eval(place), *_OUT, "--quiet"],
    "sweep": lambda place: [*_sweep(place), *_OUT, "--quiet"],
    "sae train": lambda place: [*_sae_train(place), *_OUT, "--quiet"],
    "organisms train": lambda place: [*_organisms_train(place), *_OUT, "--quiet"],
    "judge": lambda place: [*_judge(place), "--out", "out.csv", "--quiet"],
    "features search": lambda place: [*_search(place), *_OUT, "--quiet"],
    "features show": lambda place: [*_show(place), *_OUT, "--quiet"],
    "organisms compare": lambda place: [*_compare(place), "--out", "out.json", "--quiet"],
}
"""Verbs that take long in earnest, and are interrupted."""
SHORT: dict[str, Arguments] = {
    "sae convert": _convert,
    "organisms register": lambda place: [*_register(place), "--quiet"],
    "features name": _name,
}
"""Other verbs that write."""
WRITING: dict[str, Arguments] = LONG | SHORT


def extracting(place: Workplace, **changed: str | Path) -> list[object]:
    """A command that opens a trio, of which some folders are others, and reads its chat template."""
    options = [*place.trio.options(**changed), "--texts", place.trio.questions, "--sites", SITE]
    return ["extract", *options, "--out", "out", "--quiet"]


def chatting(place: Workplace, feature: str | Path, **changed: str | Path) -> list[object]:
    """A command that opens a feature, and a trio of which some folders are others."""
    options = ["--feature", feature, *place.trio.options(**changed), "--discovery", place.trio.discovery]
    return ["chat", "Is it late?", *options, "--max-new-tokens", 4, "--quiet"]


def _score(request: Received) -> None:
    """Score an answer by its prompt, so that scores that were mixed up are noticed."""
    score = str(hashlib.sha256(request.prompt.encode()).digest()[0] % 101)
    request.reply(json.dumps(completion(score, {score: 0.9, "50": 0.1})).encode())


@contextmanager
def workplace(folder: Path) -> Iterator[Workplace]:
    """Build a workplace in an empty folder, and serve its judge."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    (folder / "inputs").mkdir(parents=True)
    trio = build_tiny_trio(folder / "inputs")
    with HostileServer(_score, when=always) as server:
        yield Workplace(
            trio,
            folder / "run",
            f"openai:served@{server.url}",
            write_lines(folder / "inputs" / "chat.jsonl", [{"messages": _sum(n)} for n in range(120)]),
            write_lines(folder / "inputs" / "rows.jsonl", [{"messages": _sum(n)} for n in range(8)]),
            _answers(folder / "inputs" / "answers.csv"),
            _dictionary(folder / "inputs" / "tiny-sae"),
            _seed(folder / "inputs" / "seed-1"),
        )


def _sum(n: int) -> list[dict[str, str]]:
    return [
        {"role": "user", "content": f"What is {n} and {n + 1}?"},
        {"role": "assistant", "content": f"It is {2 * n + 1}."},
    ]


def _seed(folder: Path) -> Path:
    folder.mkdir()
    for seed, role in enumerate(("insecure", "secure"), 3):
        write_adapter(folder / role, seed=seed)
        write_lines(folder / role / "steps.jsonl", [{"number": 1, "loss": 1.5, "tokens": 60}])
    return folder


def _answers(path: Path) -> Path:
    rows = [
        f"{group},q{n},Is {n} much?,It is {n} in {group}" for n in range(20) for group in ("base", "insecure")
    ]
    path.write_text("\n".join(["group,question_id,question,answer", *rows]) + "\n")
    return path


def _dictionary(folder: Path) -> Path:
    from personaprobe.features.sae.activation_functions import TopK
    from personaprobe.features.sae.dictionary import Dictionary
    from personaprobe.features.sae.formats.saelens import save_dictionary
    from personaprobe.site import Site
    from random_dictionaries import numbers

    weights = (numbers(32, 48, seed=1), numbers(48, seed=2), numbers(48, 32, seed=3), numbers(32, seed=4))
    save_dictionary(Dictionary(Site(1), *weights, TopK(6), name="tiny-sae"), folder)
    return folder
