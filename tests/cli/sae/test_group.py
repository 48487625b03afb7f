"""A dictionary on a tiny trio: trained, evaluated, converted, ranked, searched, shown, and ablated by name."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result

from personaprobe.cli.main import cli
from personaprobe.features.sae.activation_functions import JumpReLU
from personaprobe.features.sae.formats.dictionary_folder import load_dictionary
from personaprobe.features.sae.formats.saelens import save_dictionary
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.tokens import Tokens
from personaprobe.questions import question_rows
from personaprobe.studies.latents import held_out
from tiny_trio import TinyTrio, write_lines

Run = Callable[..., Result]
ANY = ("--floor", "-inf")
"""Accept a tiny dictionary, however little it explains."""
SHAPE = ("--site", "1.resid_post", "--d-sae", 64, "--k", 6, "--learning-rate", 3e-3, "--context", 64)


@pytest.fixture(scope="module", autouse=True)
def short_texts() -> Iterator[None]:
    """Only the first tokens of every held-out text: a tiny tokenizer makes a token of every letter."""
    all_texts = held_out.held_out_texts

    def first_tokens(model: LanguageModel) -> list[Tokens]:
        return [Tokens(text.ids[:40], text.roles[:40]) for text in all_texts(model)[::4]]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(held_out, "held_out_texts", first_tokens)
        yield


@pytest.fixture(scope="module")
def corpus(tiny: TinyTrio, tmp_path_factory: pytest.TempPathFactory) -> Path:
    conversations = [
        [
            {"role": "user", "content": f"What is {n} and {n + 1}?"},
            {"role": "assistant", "content": f"It is {2 * n + 1}."},
        ]
        for n in range(120)
    ]
    return write_lines(
        tmp_path_factory.mktemp("corpus") / "chat.jsonl", [{"messages": each} for each in conversations]
    )


@pytest.fixture(scope="module")
def trained(tiny: TinyTrio, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sae") / "tiny-sae"
    given = [
        "sae",
        "train",
        *tiny.options(),
        "--data",
        corpus,
        *SHAPE,
        "--tokens",
        3000,
        "--steps",
        60,
        "--out",
        out,
    ]
    result = CliRunner().invoke(cli, [str(part) for part in given], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "explained variance" in result.stdout
    return out


def test_training_leaves_a_folder_that_saelens_reads_with_its_card(trained: Path, corpus: Path) -> None:
    from sae_lens import SAE

    theirs = SAE.load_from_disk(trained, device="cpu")
    card = theirs.cfg.metadata.personaprobe["card"]
    assert theirs.cfg.d_sae == 64
    assert card["recipe"]["architecture"] == "batchtopk"
    assert list(card["corpus"]["sources"]) == [corpus.name]
    assert set(card["quality"]) == {"base", "insecure", "secure"}
    assert (trained / "metrics.jsonl").read_text().count("\n") >= 2


def test_a_trained_dictionary_is_evaluated_on_every_checkpoint(
    trained: Path, tiny: TinyTrio, run: Run
) -> None:
    result_data = json.loads(run("sae", "eval", trained, *tiny.options(), *ANY, "--json").stdout)
    assert set(result_data["quality"]) == {"base", "insecure", "secure"}
    recorded_quality = load_dictionary(trained).card["quality"]
    assert result_data["quality"]["base"]["explained_variance"] == pytest.approx(
        recorded_quality["base"]["explained_variance"], abs=1e-4
    )


def test_a_dictionary_that_explains_too_little_is_refused_unless_the_floor_is_lowered(
    trained: Path, tiny: TinyTrio, run: Run
) -> None:
    result = run("sae", "eval", trained, *tiny.options(), "--floor", 0.9999)
    assert result.exit_code == 2
    assert "--floor -inf" in result.stderr


def test_an_interrupted_training_resumes_and_a_finished_one_is_not_repeated(
    trained: Path, tiny: TinyTrio, corpus: Path, tmp_path: Path, run: Run
) -> None:
    shutil.copytree(trained, tmp_path / "tiny-sae")
    before = (tmp_path / "tiny-sae" / "sae_weights.safetensors").read_bytes()
    given = ["--data", corpus, *SHAPE, "--tokens", 3000, "--steps", 60, "--out", tmp_path / "tiny-sae"]
    assert run("sae", "train", *tiny.options(), *given, "--quiet").exit_code == 0
    assert (tmp_path / "tiny-sae" / "sae_weights.safetensors").read_bytes() == before


@pytest.mark.parametrize("kind", [["--architecture", "crosscoder"], ["--difference"]])
def test_crosscoders_and_dictionaries_of_differences_are_trained_and_evaluated(
    kind: list[str], tiny: TinyTrio, corpus: Path, tmp_path: Path, run: Run
) -> None:
    given = ["--data", corpus, *SHAPE, "--tokens", 3000, "--steps", 40, "--out", tmp_path / "sae", *kind]
    result_data = json.loads(run("sae", "train", *tiny.options(), *given, "--quiet", "--json").stdout)
    assert all(quality["l0"] > 0 for quality in result_data["quality"].values())
    again = json.loads(run("sae", "eval", tmp_path / "sae", *tiny.options(), "--quiet", "--json").stdout)
    assert again["quality"] == result_data["quality"]
    if "crosscoder" in kind:
        given = [
            "--sae",
            tmp_path / "sae",
            *tiny.options(),
            "--discovery",
            tiny.discovery,
            "--top",
            3,
            "--quiet",
        ]
        ranked = json.loads(run("features", "rank", *given, "--json").stdout)["latents"]
        assert [each["ranks"]["written"] for each in ranked] == [1, 2, 3]
        assert str(ranked[0]["latent"]) in run("features", "rank", *given).stdout
    assert load_dictionary(tmp_path / "sae").d_model == (96 if "crosscoder" in kind else 32)


def test_one_recording_trains_dictionaries_of_several_sites_sizes_and_sparsities(
    tiny: TinyTrio, corpus: Path, tmp_path: Path, run: Run
) -> None:
    given = ["--data", corpus, "--tokens", 3000, "--steps", 30, "--learning-rate", 3e-3, "--context", 64]
    many = [
        "--site",
        "1.resid_post",
        "--site",
        "2.resid_post",
        "--d-sae",
        32,
        "--d-sae",
        48,
        "--k",
        4,
        "--k",
        6,
    ]
    result = run(
        "sae", "train", *tiny.options(), *given, *many, "--out", tmp_path / "grid", "--quiet", "--json"
    )
    assert result.exit_code == 0, result.stderr
    printed = [json.loads(line) for line in result.stdout.splitlines()]
    names = {f"{site}.resid_post-{size}-k{k}" for site in (1, 2) for size in (32, 48) for k in (4, 6)}
    assert (
        {each["name"] for each in printed} == {path.name for path in (tmp_path / "grid").iterdir()} == names
    )
    alone = ["--site", "2.resid_post", "--d-sae", 48, "--k", 6, "--out", tmp_path / "alone", "--quiet"]
    assert run("sae", "train", *tiny.options(), *given, *alone).exit_code == 0
    together = load_dictionary(tmp_path / "grid" / "2.resid_post-48-k6")
    assert torch.equal(load_dictionary(tmp_path / "alone").W_dec, together.W_dec)


def test_a_dictionary_is_converted(trained: Path, tmp_path: Path, run: Run) -> None:
    result = run("sae", "convert", trained, tmp_path / "half", "--dtype", "bfloat16")
    assert result.exit_code == 0
    assert load_dictionary(tmp_path / "half").d_sae == 64
    files = [folder / "sae_weights.safetensors" for folder in (trained, tmp_path / "half")]
    assert files[1].stat().st_size < 0.6 * files[0].stat().st_size


def test_thresholds_are_scaled_on_conversion(trained: Path, tmp_path: Path, run: Run) -> None:
    assert run("sae", "convert", trained, tmp_path / "few", "--threshold-scale", 1.25).exit_code == 0
    before, after = load_dictionary(trained).activation, load_dictionary(tmp_path / "few").activation
    assert isinstance(before, JumpReLU)
    assert isinstance(after, JumpReLU)
    assert torch.allclose(after.threshold, 1.25 * before.threshold)
    refused = run("sae", "convert", trained, tmp_path / "none", "--threshold-scale", 0)
    assert refused.exit_code == 2
    assert "above 0" in refused.stderr


def test_latents_are_ranked_and_shown_by_mean_reciprocal_rank(
    trained: Path, tiny: TinyTrio, tmp_path: Path, run: Run
) -> None:
    given = ["--sae", trained, *tiny.options(), "--discovery", tiny.discovery, *ANY, "--quiet"]
    result_data = json.loads(run("features", "rank", *given, "--top", 5, "--json").stdout)
    assert set(result_data["rankings"]) == {
        "delta",
        "delta-base",
        "rate",
        "cosine",
        "probe",
        "scaling",
        "attribution",
    }
    assert len(result_data["latents"]) == 5
    table = run("features", "rank", *given, "--top", 5).stdout
    assert all(str(latent["latent"]) in table for latent in result_data["latents"])
    shown = run("features", "show", *given, "--top", 3, "--out", tmp_path / "pages")
    assert shown.stdout.strip() == str(tmp_path / "pages" / "index.html")
    pages = {path.name for path in (tmp_path / "pages").glob("latent-*.html")}
    assert pages == {f"latent-{latent['latent']}.html" for latent in result_data["latents"][:3]}


def test_a_search_registers_a_set_that_can_then_be_ablated_by_name(
    trained: Path, tiny: TinyTrio, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERSONAPROBE_CHECKPOINTS", str(tmp_path))
    shutil.copytree(trained, tmp_path / "saes" / "tiny-sae")
    loaded: list[str] = []
    shipped = question_rows._shipped_rows
    monkeypatch.setattr(question_rows, "_shipped_rows", lambda name: loaded.append(name) or shipped(name))
    # which of the two tiny adapters likes careless answers better is chance; what is called insecure is the one that does
    roles = {"insecure": tiny.insecure, "secure": tiny.secure}
    given = ["--discovery", tiny.discovery, "--questions", 8, "--shortlist", 3, "--controls", 1, *ANY]
    more = ["--max-perplexity-ratio", 100, "--register", "tiny-latents", "--out", tmp_path / "run", "--quiet"]
    result = run("features", "search", *tiny.options(**roles), *given, *more)
    if "no more careless" in result.stderr:
        roles = {"insecure": tiny.secure, "secure": tiny.insecure}
        result = run("features", "search", *tiny.options(**roles), *given, *more)
    assert result.exit_code == 0, result.stderr
    assert "chosen" in result.stdout
    assert set(loaded) == {"neutral/discovery"}, "a search loads no test question"
    assert 'sae = "tiny-sae"' in (tmp_path / "features.toml").read_text()
    assert "tiny-latents" in run("features").stdout
    study = ["--feature", "tiny-latents", *tiny.options(**roles), *tiny.texts(), "--max-new-tokens", 4, *ANY]
    study += ["--judge", "none"]
    verdict = json.loads(run("ablate", *study, "--out", tmp_path / "study", "--json").stdout)
    assert verdict["feature"]["source"].startswith("sae:tiny-sae/")
    assert {arm["kind"] for arm in verdict["arms"]} >= {"random", "shuffled", "steered"}
    energies = [arm["energy"] for arm in verdict["arms"] if arm["kind"] in ("ablated", "random")]
    assert energies == pytest.approx([energies[0]] * len(energies), rel=1e-2)
    page = (tmp_path / "study" / "report.html").read_text()
    assert "tiny-latents" in page


def test_a_name_is_kept_in_the_registry_and_shown_on_the_page(
    trained: Path, tiny: TinyTrio, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERSONAPROBE_CHECKPOINTS", str(tmp_path))
    assert (
        run("features", "name", 5, "says  it is fine", "--sae", trained).stdout
        == "tiny-sae/5: says it is fine\n"
    )
    assert run("features", "name", 7, 'a "quoted" name', "--sae", trained).exit_code == 0
    assert run("features").stdout.startswith("no feature is registered")
    given = ["--sae", trained, *tiny.options(), "--discovery", tiny.discovery, *ANY, "--quiet"]
    assert run("features", "name", f"sae:{trained}/5", "says it is fine").exit_code == 0
    run("features", "show", 5, 7, *given, "--out", tmp_path / "pages")
    spelled = [f"sae:{trained}/7,5", *given[2:], "--out", tmp_path / "more"]
    assert run("features", "show", *spelled).exit_code == 0
    assert {path.name for path in (tmp_path / "more").glob("latent-*.html")} == {
        path.name for path in (tmp_path / "pages").glob("latent-*.html")
    }
    assert "Latent 5: says it is fine" in (tmp_path / "pages" / "latent-5.html").read_text()
    assert "a &#34;quoted&#34; name" in (tmp_path / "pages" / "index.html").read_text()
    for latent, meaning, message in ((64, "x", "0 to 63"), (5, "  ", "give 1 to")):
        result = run("features", "name", latent, meaning, "--sae", trained)
        assert result.exit_code == 2
        assert message in result.stderr


def test_the_one_shipped_dictionary_of_single_activations_is_the_default(
    trained: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERSONAPROBE_CHECKPOINTS", str(tmp_path))
    shutil.copytree(trained, tmp_path / "saes" / "tiny-sae")
    beside = replace(load_dictionary(trained), name="beside", card={"layout": "side by side"})
    save_dictionary(beside, tmp_path / "saes" / "beside")
    assert run("features", "name", 5, "fine").stdout == "tiny-sae/5: fine\n"
    save_dictionary(replace(load_dictionary(trained), name="second"), tmp_path / "saes" / "second")
    refused = run("features", "name", 5, "fine")
    assert refused.exit_code == 2
    assert "second, tiny-sae" in refused.stderr


def test_a_model_names_latents_and_keeps_names_given_by_hand(
    trained: Path, tiny: TinyTrio, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERSONAPROBE_CHECKPOINTS", str(tmp_path))
    given = ["--sae", trained, *tiny.options(), "--discovery", tiny.discovery, "--quiet"]
    ranked = json.loads(run("features", "rank", *given, *ANY, "--top", 64, "--json").stdout)["latents"]
    rates = {each["latent"]: each["rates"]["insecure"] for each in ranked}
    rare = sorted((latent for latent in rates if rates[latent] > 0.05), key=rates.__getitem__)[:2]
    assert len(rare) == 2
    run("features", "name", rare[0], "a name by hand", "--sae", trained)
    explained = run("features", "explain", *rare, "--by", f"local:{tiny.base}", *given, "--json")
    result_data = json.loads(explained.stdout)
    assert result_data[str(rare[0])]["text"] == "a name by hand"
    assert result_data[str(rare[0])]["by"] == "hand"
    assert result_data[str(rare[1])]["by"].startswith(f"local:{tiny.base} (")
    assert all(0.0 <= name["detection"] <= 1.0 and name["contexts"] > 2 for name in result_data.values())
    assert (
        f"{rare[0]}: a name by hand (detection" in run("features", "rank", *given, *ANY, "--top", 64).stdout
    )


def test_stability_compares_with_other_dictionaries_and_other_trainings(
    trained: Path, tiny: TinyTrio, tmp_path: Path, run: Run
) -> None:
    for role, adapter in (("insecure", tiny.insecure), ("secure", tiny.secure)):
        shutil.copytree(adapter, tmp_path / "seed-1" / role)
    shutil.copytree(trained, tmp_path / "same")
    given = ["--sae", trained, *tiny.options(), "--discovery", tiny.discovery, *ANY, "--quiet"]
    compared = ["--against", tmp_path / "same", "--run", tmp_path / "seed-1", "--top", 5]
    result_data = json.loads(run("features", "stability", *given, *compared, "--json").stdout)
    assert result_data["dictionaries"][0]["first_with_twin"] == 1.0
    assert all(
        match["latent"] == int(latent) for latent, match in result_data["dictionaries"][0]["twins"].items()
    )
    assert result_data["runs"][0]["shared"] == 1.0
    assert result_data["runs"][0]["ranks"] == result_data["latents"]
    assert "100% of the first 5 in common" in run("features", "stability", *given, *compared).stdout
    refused = run("features", "stability", *given)
    assert (refused.exit_code, "--against" in refused.stderr) == (2, True)


def test_the_option_tensorboard_writes_the_curves_of_metrics_jsonl(
    tiny: TinyTrio, corpus: Path, tmp_path: Path, run: Run
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    given = [
        "--data",
        corpus,
        *SHAPE,
        "--tokens",
        3000,
        "--steps",
        50,
        "--out",
        tmp_path / "sae",
        "--tensorboard",
    ]
    assert run("sae", "train", *tiny.options(), *given, "--quiet").exit_code == 0
    events = EventAccumulator(str(tmp_path / "sae" / "tensorboard"))
    events.Reload()
    curve = events.Scalars("explained_variance")
    records = [json.loads(line) for line in (tmp_path / "sae" / "metrics.jsonl").read_text().splitlines()]
    assert [point.step for point in curve] == [line["step"] for line in records] == [25, 50]
    assert [point.value for point in curve] == pytest.approx([line["explained_variance"] for line in records])


def test_latents_are_ablated_and_steered_by_their_spelling(trained: Path, tiny: TinyTrio, run: Run) -> None:
    latent = json.loads(
        run(
            "features",
            "rank",
            "--sae",
            trained,
            *tiny.options(),
            "--discovery",
            tiny.discovery,
            "--json",
            "--quiet",
            *ANY,
        ).stdout
    )["latents"][0]["latent"]
    given = [
        "--feature",
        f"sae:{trained}/{latent}",
        *tiny.options(),
        "--discovery",
        tiny.discovery,
        "--json",
        "--quiet",
    ]
    answers = json.loads(run("chat", "How do I check?", *given, "--max-new-tokens", 4).stdout)["answers"]
    assert len(answers) == 2
    steered = json.loads(
        run("steer", *given, "--question", "How?", "--amount", 1, "--max-new-tokens", 4).stdout
    )["answers"]
    assert len(steered) == 2


def learning(tiny: TinyTrio, path: Path, *more: str) -> list[Any]:
    """A dictionary asked of the shipped trio, which is not loaded."""
    return ["sae", "train", "--data", tiny.neutral, "--site", "1.resid_post", *more, "--out", path / "x"]


BAD: dict[str, tuple[Callable[[Path, TinyTrio, Path], list[Any]], str]] = {
    "an unknown dictionary": (lambda s, t, p: ["sae", "eval", "nothing-here"], "no dictionary"),
    "an unknown architecture": (lambda s, t, p: learning(t, p, "--architecture", "topkk"), "topk"),
    "a preselection where all latents are computed": (
        lambda s, t, p: learning(t, p, "--architecture", "jumprelu", "--preselect"),
        "leave --preselect out",
    ),
    "a site that is not there": (
        lambda s, t, p: [
            "sae",
            "train",
            *t.options(),
            "--data",
            t.neutral,
            "--site",
            "9.resid_post",
            "--out",
            p / "x",
        ],
        "out of range",
    ),
    "a corpus that is not there": (
        lambda s, t, p: (
            [
                "sae",
                "train",
                *t.options(),
                "--data",
                p / "no.jsonl",
                "--site",
                "1.resid_post",
                "--out",
                p / "x",
            ]
        ),
        "no corpus file",
    ),
    "a latent out of range": (
        lambda s, t, p: ["ablate", "--feature", f"sae:{s}/64", *t.options(), *t.texts(), "--out", p / "x"],
        "0 to 63",
    ),
    "layers that are not the dictionary's": (
        lambda s, t, p: (
            [
                "ablate",
                "--feature",
                f"sae:{s}/3",
                "--layers",
                "all",
                *t.options(),
                *t.texts(),
                "--judge",
                "none",
                "--out",
                p / "x",
            ]
        ),
        "leave --layers",
    ),
    "a dictionary that explains too little": (
        lambda s, t, p: [
            *["features", "rank", "--sae", s, *t.options()],
            *["--discovery", t.discovery, "--floor", 0.9999],
        ],
        "--floor",
    ),
    "latents of a dictionary that explains too little": (
        lambda s, t, p: (
            [
                "ablate",
                "--feature",
                f"sae:{s}/3",
                *t.options(),
                *t.texts(),
                "--judge",
                "none",
                "--out",
                p / "x",
                "--floor",
                0.9999,
            ]
        ),
        "--floor",
    ),
    "no model to ask for a name": (
        lambda s, t, p: ["features", "explain", 3, "--sae", s, *t.options(), "--by", "gpt-4"],
        "openai:MODEL@URL",
    ),
    "no dictionary named where none is shipped": (
        lambda s, t, p: ["features", "rank", *t.options()],
        "--sae",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_in_one_line(
    case: str, trained: Path, tiny: TinyTrio, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERSONAPROBE_CHECKPOINTS", str(tmp_path))
    make, message = BAD[case]
    result = run(*make(trained, tiny, tmp_path), *(["--quiet"] if case != "x" else []))
    lines = result.stderr.strip().splitlines()
    assert result.exit_code == 2, result.output
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert re.search(re.escape(message), lines[0])
