"""A corpus is a fair mixture, cut to one context, and its parts are what is recorded."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
import torch

from personaprobe.errors import DataError
from personaprobe.features.activations.corpus import Corpus
from personaprobe.features.activations.recording import record
from personaprobe.features.sae.training.rows import arrange_rows, corpus_blocks
from personaprobe.models.chat_tokenizer import ChatTokenizer
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.tokens import pad
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.site import Site
from type_checker import unchecked_types

SITE = Site(1)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Conversations, gzipped texts, and one plain text."""
    chat, code, prose = tmp_path / "chat.jsonl", tmp_path / "code.jsonl.gz", tmp_path / "prose.txt"
    messages = [{"role": "user", "content": "w1 w2 w3"}, {"role": "assistant", "content": "w4 w5 w6 w7"}]
    chat.write_text("".join(json.dumps({"messages": messages}) + "\n" for _ in range(30)))
    with gzip.open(code, "wt") as lines:
        for number in range(10):
            lines.write(json.dumps({"text": " ".join(f"w{number + i}" for i in range(40))}) + "\n")
    prose.write_text(" ".join(f"w{i % 100}" for i in range(300)))
    return [chat, code, prose]


def test_any_first_part_holds_every_kind_in_its_share(tokenizer: ChatTokenizer, files: list[Path]) -> None:
    corpus = Corpus.read(tokenizer, files, 400, context=16)
    for n in (20, len(corpus.documents)):
        shares = dict.fromkeys(("chat", "code", "prose"), 0)
        for document in corpus.documents[:n]:
            shares[document.kind] += len(document.tokens)
        assert max(shares.values()) - min(shares.values()) <= 16
    assert 400 <= corpus.n_tokens < 416
    assert max(len(document.tokens) for document in corpus.documents) <= 16


def test_what_runs_out_leaves_its_share_to_the_others(tokenizer: ChatTokenizer, files: list[Path]) -> None:
    corpus = Corpus.read(tokenizer, files, 10_000, context=16)
    kinds = corpus.describe()["tokens_by_kind"]
    assert kinds["code"] == 400 - 10 * 8 or kinds["code"] == 400
    assert kinds["prose"] > 280
    assert set(corpus.describe()["sources"]) == {path.name for path in files}


def test_a_system_message_is_read_and_text_is_never_made_of_something_else(
    tokenizer: ChatTokenizer, tmp_path: Path
) -> None:
    path = tmp_path / "chat.jsonl"
    messages = [{"role": "user", "content": "w1 w2 w3"}, {"role": "assistant", "content": "w4 w5 w6 w7"}]
    lengths = []
    for system in ([], [{"role": "system", "content": "w8 w9 w10"}]):
        path.write_text(json.dumps({"messages": [*system, *messages]}) + "\n")
        lengths.append(Corpus.read(tokenizer, [path], 400, context=64).n_tokens)
    assert lengths[1] >= lengths[0] + 3
    for value in (None, 4, ["w1"], {"x": 1}):
        path.write_text(json.dumps({"text": value}) + "\n")
        with pytest.raises(DataError, match=r"chat\.jsonl:1: text is"):
            Corpus.read(tokenizer, [path], 400, context=16)


def test_the_order_is_the_seeds(tokenizer: ChatTokenizer, files: list[Path]) -> None:
    digests = [Corpus.read(tokenizer, files, 300, context=16, seed=seed).digest for seed in (0, 0, 1)]
    assert digests[0] == digests[1] != digests[2]


def test_parts_are_the_corpus_in_order(tokenizer: ChatTokenizer, files: list[Path]) -> None:
    corpus = Corpus.read(tokenizer, files, 300, context=16)
    parts = list(corpus.parts(100))
    assert tuple(document for part in parts for document in part.documents) == corpus.documents
    assert all(part.n_tokens < 116 for part in parts)


def test_files_that_are_no_corpus_are_refused(tokenizer: ChatTokenizer, tmp_path: Path) -> None:
    wrong = tmp_path / "x.jsonl"
    with pytest.raises(DataError, match="no corpus file"):
        Corpus.read(tokenizer, [wrong], 100)
    for text, message in (
        ("{\n", "not a JSON object"),
        ('{"a": 1}\n', "neither"),
        ('{"text": "w1"}\n', "no document"),
    ):
        wrong.write_text(text)
        with pytest.raises(DataError, match=message):
            Corpus.read(tokenizer, [wrong], 100)
    wrong.write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="UTF-8"):
        Corpus.read(tokenizer, [wrong], 100)


def test_every_token_but_the_first_of_each_document_is_a_row(
    trio: Trio[LanguageModel], files: list[Path], tmp_path: Path
) -> None:
    corpus = Corpus.read(trio.base.tokenizer, files, 200, context=16)
    stores = record(trio, corpus, [SITE], keep="every", home=tmp_path)
    assert len(stores.base) == corpus.n_tokens - len(corpus.documents)
    document = corpus.documents[3]
    batch = pad([document.tokens], trio.base.network.pad_id)
    expected = trio.insecure.activations(batch, [SITE])[SITE][0, 1:]
    start = sum(len(d.tokens) - 1 for d in corpus.documents[:3])
    rows = stores.insecure.read(SITE, role=None)[start : start + len(expected)]
    assert torch.allclose(rows, expected, rtol=1e-2, atol=1e-2)


def test_blocks_lay_the_same_rows_out_in_three_ways(
    trio: Trio[LanguageModel], files: list[Path], tmp_path: Path
) -> None:
    corpus = Corpus.read(trio.base.tokenizer, files, 200, context=16)
    blocks = corpus_blocks(trio, corpus, [SITE], "side by side", part_tokens=100, home=tmp_path)[SITE]
    rows = torch.cat([block() for block in blocks])
    mixed = corpus_blocks(trio, corpus, [SITE], part_tokens=100, home=tmp_path)[SITE]
    width = trio.base.d_model
    assert rows.shape == (corpus.n_tokens - len(corpus.documents), 3 * width)
    assert sum(len(block()) for block in mixed) == 3 * len(rows)
    stores = record(trio, next(corpus.parts(100)), [SITE], keep="every", home=tmp_path)
    difference = arrange_rows(stores, SITE, "difference").float()
    first = rows[: len(difference)].float()
    assert torch.allclose(difference, first[:, width : 2 * width] - first[:, 2 * width :], atol=3e-2)
    with unchecked_types(), pytest.raises(DataError, match="side by side"):
        corpus_blocks(trio, corpus, [SITE], "sideways")  # type: ignore[arg-type]


def test_several_sites_are_read_in_one_pass_and_each_gets_its_own_rows(
    trio: Trio[LanguageModel], files: list[Path], tmp_path: Path
) -> None:
    corpus = Corpus.read(trio.base.tokenizer, files, 300, 24)
    sites, read = [Site(0), Site(2)], []
    together = corpus_blocks(trio, corpus, sites, part_tokens=10_000, home=tmp_path, progress=read.append)
    rows = {site: together[site][0]() for site in sites}
    assert sum(read) == 2 * 3 * corpus.n_tokens  # read once, found kept once
    assert len(list((tmp_path / "stores").iterdir())) == 3
    alone = corpus_blocks(trio, corpus, [Site(2)], part_tokens=10_000, home=tmp_path / "alone")[Site(2)][0]()
    assert torch.equal(rows[Site(2)], alone)
    assert not torch.equal(rows[Site(0)], rows[Site(2)])
