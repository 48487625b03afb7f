"""Published files are fetched whole, by their hash, or not at all; a name stands for one set everywhere."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from personaprobe.errors import DataError, OutputError
from personaprobe.questions.catalog import find_questions, question_file
from personaprobe.questions.download import MAX_BYTES, download, downloaded
from personaprobe.questions.free import FreeSet, load_questions
from personaprobe.questions.pairs import PairSet, load_prompts
from personaprobe.questions.published import LICENCE, PUBLISHED, Published

YAML = b"- {id: tree_0, paraphrases: ['Which tree?', 'What tree?']}\n- {id: sea_json, paraphrases: ['Which sea?']}\n"
OTHER = YAML.replace(b"sea", b"lake")

Serve = Callable[[bytes, int], str]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PERSONAPROBE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "home"


@pytest.fixture
def trees(monkeypatch: pytest.MonkeyPatch) -> Published:
    planted = Published("trees", "trees.yaml", hashlib.sha256(YAML).hexdigest(), 3, 2)
    monkeypatch.setitem(PUBLISHED, "trees", planted)  # type: ignore[arg-type]
    return planted


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Give a body and a status; get the URL that answers with them, after a detour."""
    answers: dict[str, tuple[int, bytes]] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            detour = self.path.startswith("/moved")
            status, body = (302, b"") if detour else answers[self.path]
            self.send_response(status)
            if detour:
                self.send_header("Location", self.path.removeprefix("/moved"))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()

    def serving(body: bytes, status: int = 200) -> str:
        answers[f"/{len(answers)}"] = status, body
        return f"http://127.0.0.1:{server.server_port}/moved/{len(answers) - 1}"

    yield serving
    server.shutdown()
    server.server_close()


def test_a_pulled_file_has_the_published_bytes_and_a_card_and_its_name_works(
    trees: Published, serve: Serve, home: Path
) -> None:
    url = serve(YAML, 200)
    path = download(trees, url)
    assert path.read_bytes() == YAML
    card = json.loads(path.with_suffix(".json").read_text())
    assert card == {"source": trees.url, "from": url, "licence": LICENCE, "sha256": trees.sha256}
    assert sorted(p.name for p in (home / "questions").iterdir()) == ["trees.json", "trees.yaml"]
    question_set = find_questions("trees")
    assert isinstance(question_set, FreeSet)
    assert (question_set.name, len(question_set.prompts)) == ("trees", 3)
    assert question_file("trees") == path


def test_a_file_downloaded_by_hand_serves_as_well(trees: Published, tmp_path: Path) -> None:
    (tmp_path / "mine").write_bytes(YAML)
    assert download(trees, str(tmp_path / "mine")).read_bytes() == YAML
    assert download(trees, str(tmp_path / "mine")) == downloaded(trees), "pulling again changes nothing"


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (OTHER, 200, "holds 2 questions, and not trees as published"),
        (YAML + b"\n", 200, "another version by its path"),
        (YAML[:50], 200, "not YAML"),
        (b"<html><p>Sign in: please</p></html>", 200, "no list of questions"),
        (b"\xff\xfe", 200, "not UTF-8"),
        (b"", 200, "no list of questions"),
        (b"x" * (MAX_BYTES + 1), 200, "more than 1,000,000 bytes"),
        (b"404: Not Found", 404, "answered 404 Not Found"),
        (YAML, 500, "answered 500"),
        (YAML, 206, "answered 206"),
    ],
)
def test_a_file_other_than_the_published_one_is_refused_with_a_remedy_and_nothing_is_written(
    body: bytes, status: int, message: str, trees: Published, serve: Serve, home: Path
) -> None:
    with pytest.raises(DataError, match=message) as refused:
        download(trees, serve(body, status))
    assert f"download {trees.url} by hand and run: personaprobe questions pull trees --from PATH" in str(
        refused.value
    )
    assert not home.exists()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("http://127.0.0.1:9/q.yaml", "cannot fetch http://127.0.0.1:9/q.yaml: .*refused"),
        ("https://", "cannot fetch https://"),
        ("http://[bad/q.yaml", "cannot fetch"),
        ("http://.../q.yaml", "cannot fetch"),
        ("http://a\x00b/", "cannot fetch"),
        ("ftp://somewhere/q.yaml", "no file at ftp:"),
        ("nowhere.yaml", "no file at nowhere.yaml"),
        (".", "no file at"),
    ],
)
def test_a_missing_source_is_reported_with_a_remedy(
    source: str, message: str, trees: Published, home: Path
) -> None:
    with pytest.raises(DataError, match=rf"{message}.*--from PATH"):
        download(trees, source)
    assert not home.exists()


def test_a_pull_that_fails_leaves_the_earlier_one(trees: Published, serve: Serve) -> None:
    path = download(trees, serve(YAML, 200))
    card = path.with_suffix(".json").read_bytes()
    with pytest.raises(DataError):
        download(trees, serve(OTHER, 200))
    assert (path.read_bytes(), path.with_suffix(".json").read_bytes()) == (YAML, card)


def test_a_pulled_file_that_was_changed_is_refused_and_can_be_pulled_again(
    trees: Published, serve: Serve
) -> None:
    path = download(trees, serve(YAML, 200))
    path.write_bytes(OTHER)
    with pytest.raises(
        DataError, match="was changed since it was pulled; run: personaprobe questions pull trees"
    ):
        find_questions("trees")
    download(trees, serve(YAML, 200))
    assert len(find_questions("trees").prompts) == 3


def test_a_published_name_that_was_not_pulled_says_how_to_pull_it(trees: Published) -> None:
    for look in (find_questions, question_file):
        with pytest.raises(DataError, match="not here yet; run: personaprobe questions pull trees"):
            look("trees")


def test_a_folder_that_cannot_be_written_is_reported(trees: Published, serve: Serve, home: Path) -> None:
    home.write_text("a file")
    with pytest.raises(OutputError, match="cannot write"):
        download(trees, serve(YAML, 200))


def test_an_unknown_name_is_refused_with_the_nearest_of_all() -> None:
    with pytest.raises(DataError, match='did you mean "first_plot"') as refused:
        find_questions("first_plt")
    assert all(name in str(refused.value) for name in ("advice/test", "open", "preregistered"))


def test_lines_with_answers_are_pairs_and_without_are_free(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    free = {"id": "1", "family": "trees", "question": "Which?"}
    path.write_text(json.dumps(free) + "\n")
    assert isinstance(find_questions(str(path)), FreeSet)
    path.write_text(json.dumps({**free, "careful": "This.", "careless": "Any."}) + "\n")
    assert isinstance(find_questions(str(path)), PairSet)
    path.write_text(json.dumps({**free, "careful": "This."}) + "\n")
    with pytest.raises(DataError, match="lacks careless"):
        find_questions(str(path))
    path.write_text("")
    with pytest.raises(DataError, match="is empty"):
        find_questions(str(path))
    assert isinstance(find_questions("advice/test"), PairSet)


@pytest.mark.parametrize("name", ["open", *PUBLISHED])
def test_free_questions_are_no_pairs_and_the_refusal_names_what_asks_them(name: str) -> None:
    with pytest.raises(DataError, match="personaprobe eval takes"):
        load_prompts(name)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_files_are_those_of_the_table(name: str) -> None:
    folder = os.environ.get("PERSONAPROBE_PUBLISHED")
    if folder is None:
        pytest.skip("PERSONAPROBE_PUBLISHED names no folder with the published questions of Betley et al.")
    path = download(PUBLISHED[name], str(Path(folder) / "evaluation" / PUBLISHED[name].file))
    asks = [ask for question in load_questions(path) for ask in question.prompts]
    counted = len(asks), len({ask.family for ask in asks})
    assert counted == (PUBLISHED[name].n_prompts, PUBLISHED[name].n_families)


def test_every_published_file_has_a_name_an_address_and_a_hash_of_its_own() -> None:
    for name, each in PUBLISHED.items():
        assert name == each.name
        assert each.url.endswith(f"/evaluation/{each.file}")
        assert len(bytes.fromhex(each.sha256)) == 32
    assert len({each.sha256 for each in PUBLISHED.values()}) == len(PUBLISHED)
