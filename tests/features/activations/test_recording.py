"""Recording: the same tokens through every model, and what passes a site, nothing else."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from personaprobe.errors import DataError, DeviceError, FallbackWarning, OutputError, SiteError
from personaprobe.features.activations import recording, store_files
from personaprobe.features.activations.cost import estimate_cost
from personaprobe.features.activations.recording import record
from personaprobe.features.activations.store import ActivationStore
from personaprobe.features.directions.direction import Direction
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.loading import wrap
from personaprobe.models.tokens import Role, Tokens, pad
from personaprobe.models.weights.checkpoint import Checkpoint, Trio
from personaprobe.questions.pairs import PairSet, load_prompts
from personaprobe.questions.texts import TextSet
from personaprobe.site import Site
from type_checker import unchecked_types

SITES = ("0.resid_pre", "1.attn_out", "1.resid_mid", "1.mlp_out", "2.resid_post")
DEEP = "2.resid_post"


def alone(model: LanguageModel, text: Tokens, site: str) -> Tensor:
    """Activations ``(pos, d_model)`` of one text, read by itself."""
    return model.activations(pad([text], 0), [Site.parse(site)])[Site.parse(site)][0].float()


def exchanges(model: LanguageModel, pairs: PairSet) -> list[Tokens]:
    answered = [(pair.question, answer) for pair in pairs for answer in (pair.careful, pair.careless)]
    return [model.tokenizer.exchange(*spoken) for spoken in answered]


def where(rows: list[dict[str, Any]], **labels: Any) -> list[int]:
    return [i for i, row in enumerate(rows) if all(row[name] == value for name, value in labels.items())]


@contextmanager
def disk_of(n_bytes: int) -> Iterator[None]:
    """No file may grow beyond ``n_bytes``: what a full disk looks like from inside."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@dataclass(frozen=True)
class Poison:
    """Write ``value`` over the tokens of a role."""

    site: str
    value: float
    role: Role

    def edits(self, n_layers: int) -> dict[Site, Any]:
        return {Site.parse(self.site): self._edit}

    def _edit(self, activations: Tensor, roles: Tensor) -> Tensor:
        hit = roles == Role.PAD if self.role == Role.PAD else (roles & self.role) != 0
        return torch.where(hit[..., None], torch.tensor(self.value), activations)


@dataclass(frozen=True)
class Push:
    """Add a direction at its site."""

    direction: Direction

    def edits(self, n_layers: int) -> dict[Site, Any]:
        return {self.direction.site: lambda activations, roles: activations + self.direction.vector}


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The widths of the batches models were made to read."""
    seen: list[int] = []
    read = LanguageModel.activations

    def counting(self: LanguageModel, batch: Any, sites: Any) -> Any:
        seen.append(len(batch.ids))
        return read(self, batch, sites)

    monkeypatch.setattr(LanguageModel, "activations", counting)
    return seen


@pytest.mark.parametrize("site", SITES)
def test_a_kept_token_is_what_a_forward_pass_of_its_text_alone_gives(
    site: str, model: LanguageModel, pairs: PairSet, tmp_path: Path
) -> None:
    store = record(model, pairs, SITES, keep="tokens", home=tmp_path)
    values, rows = store.read(site, role=None), store.index.to_pylist()
    for text, spoken in enumerate(exchanges(model, pairs)):
        mine = where(rows, text=text)
        positions = [rows[row]["position"] for row in mine]
        assert positions == list(range(spoken.n_prompt - 1, len(spoken)))
        torch.testing.assert_close(values[mine], alone(model, spoken, site)[positions], rtol=8e-3, atol=1e-4)


@pytest.mark.parametrize("site", SITES)
def test_a_mean_is_the_mean_over_the_response_tokens_of_its_text_alone(
    site: str, model: LanguageModel, pairs: PairSet, tmp_path: Path
) -> None:
    store = record(model, pairs, SITES, home=tmp_path)
    expected = [alone(model, spoken, site)[spoken.n_prompt :].mean(0) for spoken in exchanges(model, pairs)]
    torch.testing.assert_close(store.read(site), torch.stack(expected), rtol=1e-4, atol=1e-5)
    assert set(store.rows()["position"].to_pylist()) == {-1}


def test_means_equal_the_means_of_kept_tokens(model: LanguageModel, pairs: PairSet, tmp_path: Path) -> None:
    means = record(model, pairs, DEEP, home=tmp_path)
    tokens = record(model, pairs, DEEP, keep="tokens", home=tmp_path)
    values, rows = tokens.read(DEEP), tokens.rows().to_pylist()
    averaged = torch.stack([values[where(rows, text=text)].mean(0) for text in range(2 * len(pairs))])
    torch.testing.assert_close(means.read(DEEP), averaged, rtol=1e-2, atol=1e-2)


def test_the_last_prompt_row_is_the_prompts_last_token_whatever_is_answered(
    model: LanguageModel, pairs: PairSet, tmp_path: Path
) -> None:
    store = record(model, pairs, DEEP, home=tmp_path)
    prompts = [model.tokenizer.prompt(pair.question) for pair in pairs]
    expected = torch.stack([alone(model, prompt, DEEP)[-1] for prompt in prompts])
    for answer in ("careful", "careless"):
        rows = store.read(DEEP, role="last_prompt", answer=answer)
        torch.testing.assert_close(rows, expected, rtol=1e-4, atol=1e-5)
    positions = store.rows("last_prompt", "careful")["position"].to_pylist()
    assert positions == [len(prompt) - 1 for prompt in prompts]


@pytest.mark.parametrize("keep", ["means", "tokens"])
def test_the_stores_of_a_trio_align_and_a_difference_is_a_subtraction(
    keep: Any, trio: Trio[LanguageModel], pairs: PairSet, tmp_path: Path
) -> None:
    stores = record(trio, pairs, [DEEP], keep=keep, home=tmp_path)
    for _, store in stores.items():
        stores.base.align(store)
        assert store.index.equals(stores.base.index)
    difference = stores.insecure.read(DEEP) - stores.secure.read(DEEP)
    first = exchanges(trio.base, pairs)[0]
    change = alone(trio.insecure, first, DEEP) - alone(trio.secure, first, DEEP)
    change = change[first.n_prompt :]
    expected = change.mean(0, keepdim=True) if keep == "means" else change
    torch.testing.assert_close(difference[: len(expected)], expected, rtol=0, atol=2e-2)
    assert expected.abs().max() > 0.1


@pytest.mark.parametrize("keep", ["means", "tokens"])
def test_what_stands_at_padding_is_never_recorded(
    keep: Any, model: LanguageModel, pairs: PairSet, tmp_path: Path
) -> None:
    bare = record(model, pairs, DEEP, keep=keep, home=tmp_path)
    poisoned = model.edited(Poison(DEEP, float("nan"), Role.PAD))
    store = record(poisoned, pairs, DEEP, keep=keep, home=tmp_path)
    assert torch.equal(store.read(DEEP, role=None), bare.read(DEEP, role=None))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_activation_that_is_no_number_refuses_and_leaves_no_store(
    value: float, model: LanguageModel, pairs: PairSet, tmp_path: Path
) -> None:
    broken = model.edited(Poison(DEEP, value, Role.RESPONSE))
    with pytest.raises(DataError, match=f"{DEEP} are NaN or infinite"):
        record(broken, pairs, DEEP, home=tmp_path)
    assert list((tmp_path / "stores").iterdir()) == []


@pytest.mark.parametrize("keep", ["means", "tokens", "every"])
def test_an_activation_that_is_no_number_is_named_by_its_text(
    keep: Any, model: LanguageModel, pairs: PairSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    culprit = pairs.pairs[1]
    spoken = model.tokenizer.exchange(culprit.question, culprit.careless)
    read = LanguageModel.activations

    def corrupted(self: LanguageModel, batch: Any, sites: Any) -> Any:
        activations = {site: values.clone() for site, values in read(self, batch, sites).items()}
        for row, (ids, mask) in enumerate(zip(batch.ids, batch.mask, strict=True)):
            if tuple(ids[mask].tolist()) == spoken.ids:
                activations[Site.parse(DEEP)][row, len(spoken) - 1, 0] = float("inf")
        return activations

    monkeypatch.setattr(LanguageModel, "activations", corrupted)
    with pytest.raises(DataError, match=f"in the text '{culprit.id} careless'"):
        record(model, pairs, DEEP, keep=keep, home=tmp_path)


def test_batch_size_changes_neither_rows_nor_identity(
    model: LanguageModel, pairs: PairSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: list[int]
) -> None:
    large = record(model, pairs, SITES, home=tmp_path / "large")
    assert count == [2 * len(pairs)]
    monkeypatch.setattr(LanguageModel, "batch_tokens", lambda *_: 1)
    small = record(model, pairs, SITES, home=tmp_path / "small")
    assert count[1:] == [1] * 2 * len(pairs)
    assert small.digest == large.digest
    for site in SITES:
        torch.testing.assert_close(small.read(site), large.read(site), rtol=1e-4, atol=1e-5)


def test_rows_do_not_depend_on_how_they_are_cut_into_shards(
    model: LanguageModel, pairs: PairSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = record(model, pairs, SITES, keep="tokens", home=tmp_path / "whole")
    monkeypatch.setattr(recording, "SHARD_BYTES", 6000)
    cut = record(model, pairs, SITES, keep="tokens", home=tmp_path / "cut")
    assert len(whole.manifest.shards) == 1
    assert len(cut.manifest.shards) > 3
    sizes = [shard.n_rows * 32 * 2 * len(SITES) for shard in cut.manifest.shards]
    assert max(sizes) <= 6000
    for site in SITES:
        torch.testing.assert_close(
            cut.read(site, role=None), whole.read(site, role=None), rtol=8e-3, atol=1e-4
        )
        mean = cut.read(site, family="family-1").mean(0)
        torch.testing.assert_close(cut.mean(site, family="family-1"), mean, rtol=1e-4, atol=1e-5)


def test_a_batch_too_large_for_the_memory_is_halved(
    model: LanguageModel, pairs: PairSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = record(model, pairs, DEEP, home=tmp_path / "roomy").read(DEEP)
    read = LanguageModel.activations

    def cramped(self: LanguageModel, batch: Any, sites: Any) -> Any:
        if len(batch.ids) > 3:
            raise torch.OutOfMemoryError("out of memory")
        return read(self, batch, sites)

    monkeypatch.setattr(LanguageModel, "activations", cramped)
    rows = record(model, pairs, DEEP, home=tmp_path / "cramped").read(DEEP)
    torch.testing.assert_close(rows, expected, rtol=1e-4, atol=1e-5)


def test_a_single_text_too_large_for_the_memory_says_so(
    model: LanguageModel, pairs: PairSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> Any:
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(LanguageModel, "activations", full)
    with pytest.raises(DeviceError, match="does not fit"):
        record(model, pairs, DEEP, home=tmp_path)


def test_a_present_store_is_opened_without_running_the_model(
    trio: Trio[LanguageModel], pairs: PairSet, tmp_path: Path, count: list[int]
) -> None:
    first = record(trio, pairs, ["2.resid_post", "0.resid_pre"], home=tmp_path)
    assert len(count) == 3
    done: list[int] = []
    again = record(trio, pairs, ["0.resid_pre", DEEP, DEEP], home=tmp_path, progress=done.append)
    assert len(count) == 3
    assert [store.digest for _, store in again.items()] == [store.digest for _, store in first.items()]
    assert sum(done) == 3 * first.base.manifest.n_tokens


def test_progress_counts_every_token(model: LanguageModel, pairs: PairSet, tmp_path: Path) -> None:
    done: list[int] = []
    record(model, pairs, DEEP, home=tmp_path, progress=done.append)
    assert sum(done) == sum(map(len, exchanges(model, pairs)))


def test_another_model_text_label_site_or_kind_of_row_is_another_store(
    trio: Trio[LanguageModel], pairs: PairSet, tmp_path: Path
) -> None:
    relabelled = PairSet("r", tuple(replace(pair, family="other") for pair in pairs))
    fewer = PairSet("f", pairs.pairs[1:])
    stores = [
        record(trio.base, pairs, DEEP, home=tmp_path),
        record(trio.secure, pairs, DEEP, home=tmp_path),
        record(trio.base, relabelled, DEEP, home=tmp_path),
        record(trio.base, fewer, DEEP, home=tmp_path),
        record(trio.base, pairs, SITES, home=tmp_path),
        record(trio.base, pairs, DEEP, keep="tokens", home=tmp_path),
    ]
    assert len({store.digest for store in stores}) == len(stores)


def test_edits_that_print_alike_do_not_share_a_store(
    model: LanguageModel, pairs: PairSet, tmp_path: Path
) -> None:
    pushes = [Push(Direction(Site(1), torch.randn(32), "random")) for _ in range(2)]
    assert repr(pushes[0]) == repr(pushes[1])
    bare = record(model, pairs, DEEP, home=tmp_path)
    first, second = (record(model.edited(push), pairs, DEEP, home=tmp_path) for push in pushes)
    assert len({bare.digest, first.digest, second.digest}) == 3
    assert not torch.equal(first.read(DEEP), second.read(DEEP))
    same = record(model.edited(replace(pushes[0])), pairs, DEEP, home=tmp_path)
    assert same.digest == first.digest


def test_an_edit_without_identity_is_refused_before_anything_runs(
    model: LanguageModel, pairs: PairSet, tmp_path: Path, count: list[int]
) -> None:
    class Nameless:
        def edits(self, n_layers: int) -> dict[Site, Any]:
            return {}

    with pytest.raises(DataError, match="cannot tell this edit from others"):
        record(model.edited(Nameless()), pairs, DEEP, home=tmp_path)
    assert count == []


@pytest.mark.parametrize("cleaned_up", [True, False])
def test_a_recording_killed_half_way_leaves_no_store_and_the_rerun_succeeds(
    cleaned_up: bool,
    model: LanguageModel,
    pairs: PairSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recording, "SHARD_BYTES", 6000)

    def killed(n_tokens: int) -> None:
        if list(tmp_path.rglob("shard-00001*")):
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        if not cleaned_up:  # as after SIGKILL: nobody is there to tidy
            patched.setattr(store_files.shutil, "rmtree", lambda *_, **__: None)
        with pytest.raises(KeyboardInterrupt):
            record(model, pairs, SITES, keep="tokens", home=tmp_path, progress=killed)
    left = list((tmp_path / "stores").iterdir())
    assert bool(left) is not cleaned_up
    for folder in left:
        with pytest.raises(DataError, match="holds no activations"):
            ActivationStore.open(folder)
    store = record(model, pairs, SITES, keep="tokens", home=tmp_path)
    assert len(store.read(DEEP, role=None)) == len(store)


def test_a_folder_without_a_manifest_is_recorded_again(
    model: LanguageModel, pairs: PairSet, tmp_path: Path
) -> None:
    store = record(model, pairs, DEEP, home=tmp_path)
    expected = store.read(DEEP)
    (store.folder / "manifest.json").unlink()
    (store.folder / "index.parquet").write_bytes(b"")
    assert torch.equal(record(model, pairs, DEEP, home=tmp_path).read(DEEP), expected)


@pytest.mark.parametrize("room", [100, 2500])
def test_a_full_disk_is_an_output_error_and_leaves_nothing(
    room: int, model: LanguageModel, pairs: PairSet, tmp_path: Path
) -> None:
    with disk_of(room), pytest.raises(OutputError, match="free some space"):
        record(model, pairs, DEEP, home=tmp_path)
    assert list((tmp_path / "stores").iterdir()) == []


def test_a_home_that_cannot_be_written_is_an_output_error(
    model: LanguageModel, pairs: PairSet, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="choose another folder"):
        record(model, pairs, DEEP, home=tmp_path / "file")


@pytest.mark.parametrize("keep", ["means", "tokens"])
@pytest.mark.parametrize("sites", [[DEEP], list(SITES)])
def test_the_plan_predicts_rows_tokens_and_bytes(
    keep: Any, sites: list[str], trio: Trio[LanguageModel], pairs: PairSet, tmp_path: Path
) -> None:
    texts = PairSet("many", pairs.pairs * 12)
    planned = estimate_cost(trio, texts, sites, keep)
    stores = [store for _, store in record(trio, texts, sites, keep=keep, home=tmp_path).items()]
    written = sum(path.stat().st_size for path in tmp_path.rglob("*.safetensors"))
    assert written == pytest.approx(planned.bytes, rel=0.05)
    assert [len(store) for store in stores] == [planned.n_rows] * planned.n_models
    assert stores[0].manifest.n_tokens == planned.n_tokens
    assert planned.n_texts == 2 * len(texts)
    assert (
        0 < planned.n_read <= planned.n_tokens / 6
    )  # every text is there twelve times, and most of a batch each time
    assert 0 < planned.seconds < 60
    assert " a model × 3: " in str(planned)


def test_a_plan_for_one_model_costs_a_third(trio: Trio[LanguageModel], pairs: PairSet) -> None:
    assert 3 * estimate_cost(trio.base, pairs, DEEP).bytes == estimate_cost(trio, pairs, DEEP).bytes


@pytest.mark.parametrize("texts", [["w1 w2 w3", "w4 w5"], TextSet("plain", ("w1 w2 w3", "w4 w5"))])
def test_plain_texts_are_read_as_documents(texts: Any, model: LanguageModel, tmp_path: Path) -> None:
    store = record(model, texts, DEEP, keep="tokens", home=tmp_path)
    assert store.rows()["position"].to_pylist() == [1, 2, 1]
    assert store.rows("last_prompt")["position"].to_pylist() == [0, 0]
    assert store.index["id"].to_pylist() == ["0", "0", "0", "1", "1"]
    expected = alone(model, model.tokenizer.text("w4 w5"), DEEP)
    torch.testing.assert_close(store.read(DEEP, role=None)[3:], expected, rtol=8e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("texts", "complaint"),
    [
        ("w1 w2 w3", "is one string"),
        ([], "at least one text"),
        (["w1 w2", "w1"], "fewer than two tokens"),
        (["w1 " * 65], "at most 64"),
    ],
)
def test_texts_that_cannot_be_read_are_refused(texts: Any, complaint: str, model: LanguageModel) -> None:
    with pytest.raises(DataError, match=complaint):
        record(model, texts, DEEP)


@pytest.mark.parametrize(
    ("sites", "complaint"),
    [
        ([], "at least one site"),
        ("7.resid_post", "layers 0 to 2"),
        ("1.resid_pots", 'did you mean "resid_post"'),
        ("last", "LAYER.STREAM"),
    ],
)
@unchecked_types()
def test_sites_that_do_not_exist_are_refused(
    sites: Any, complaint: str, model: LanguageModel, pairs: PairSet
) -> None:
    with pytest.raises(SiteError, match=complaint):
        record(model, pairs, sites)


def test_a_stream_the_architecture_lacks_is_refused(
    tiny_model: Any, model: LanguageModel, pairs: PairSet
) -> None:
    parallel = LanguageModel(Checkpoint("neox"), wrap(tiny_model("gpt_neox"), 0), model.tokenizer)
    with pytest.raises(SiteError, match="has no stream resid_mid"):
        record(parallel, pairs, "1.resid_mid")


@unchecked_types()
def test_an_unknown_kind_of_row_is_refused(model: LanguageModel, pairs: PairSet) -> None:
    keep: Any = "mean"
    with pytest.raises(DataError, match='did you mean "means"'):
        record(model, pairs, DEEP, keep=keep)


@pytest.mark.real
def test_the_demo_model_in_a_batch_equals_the_demo_model_alone(tmp_path: Path) -> None:
    from personaprobe.models.loading import Placement, load

    demo = load("demo", Placement("cpu", "float32"))
    pairs = load_prompts("advice/discovery").spread(2)
    store = record(demo, pairs, "16.resid_post", home=tmp_path)
    expected = [
        alone(demo, spoken, "16.resid_post")[spoken.n_prompt :].mean(0) for spoken in exchanges(demo, pairs)
    ]
    torch.testing.assert_close(store.read("16.resid_post"), torch.stack(expected), rtol=1e-4, atol=1e-3)


def test_stores_whose_folders_were_exchanged_are_recorded_anew(
    trio: Trio[LanguageModel], pairs: PairSet, tmp_path: Path
) -> None:
    stores = record(trio, pairs, DEEP, home=tmp_path)
    expected = stores.map(lambda store: store.read(DEEP))
    insecure, secure = stores.insecure.folder, stores["secure"].folder
    insecure.rename(tmp_path / "aside")
    secure.rename(insecure)
    (tmp_path / "aside").rename(secure)
    with pytest.warns(FallbackWarning, match="it is the recording .* expected") as notes:
        again = record(trio, pairs, DEEP, home=tmp_path)
    assert len(notes) == 2
    for role, store in again.items():
        assert store.digest == store.folder.name
        assert torch.equal(store.read(DEEP), expected[role])


@pytest.mark.parametrize("damage", ["", "null", "[" * 100_000, '{"format": "personaprobe-activations-1"}'])
def test_a_store_whose_manifest_is_damaged_is_recorded_anew(
    damage: str, model: LanguageModel, pairs: PairSet, tmp_path: Path
) -> None:
    store = record(model, pairs, DEEP, home=tmp_path)
    expected = store.read(DEEP)
    (store.folder / "manifest.json").write_text(damage)
    with pytest.warns(FallbackWarning, match=r"manifest\.json is damaged.*recorded anew"):
        assert torch.equal(record(model, pairs, DEEP, home=tmp_path).read(DEEP), expected)
