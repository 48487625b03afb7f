"""The report is one self-contained page; it states the verdict, and never runs text of a model."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from html import escape, unescape
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args

import pytest

from personaprobe.effects.verdict import Damage, Evidence, Thresholds, Verdict, rules
from personaprobe.errors import OutputError, visible
from personaprobe.statistics.intervals import UNDEFINED, Interval
from personaprobe.studies.ablation.result import CausalVerdict
from personaprobe.studies.arms.kinds import SPEAKING, ArmKind
from personaprobe.studies.reports import page as shared
from personaprobe.studies.reports.ablation import question_cards, render_ablation
from personaprobe.studies.reports.figures.dose_response import dose_figure
from personaprobe.studies.reports.figures.gaps import LEVELS, arms_figure, family_figure
from personaprobe.studies.reports.figures.panels import CONFIG, figure_json, plotly_script
from personaprobe.studies.reports.figures.removed import removed_figure
from personaprobe.studies.reports.figures.styles import STYLES
from personaprobe.studies.reports.figures.sweep_map import feature_sweep_map
from personaprobe.studies.reports.run_folder import FORMATS, answer_table, write_report

CHANGES: dict[Verdict, dict[str, Any]] = {
    "suppresses": {},
    "suppresses, damage not excluded": {"damage": Damage.exact(1.03, 0.021, math.nan)},
    "partly suppresses": {"fraction_removed": Interval(0.4, 0.2, 0.55)},
    "overshoots": {"fraction_removed": Interval(1.8, 1.6, 2.0)},
    "removes too little": {"fraction_removed": Interval(0.12, 0.08, 0.16)},
    "partly suppresses, damage not excluded": {
        "fraction_removed": Interval(0.4, 0.2, 0.55),
        "damage": Damage.exact(math.nan, 0.021, 0.97),
    },
    "not specific": {
        "fraction_removed": Interval(0.1, 0.02, 0.2),
        "over_random": Interval(0.07, -0.03, 0.17),
    },
    "damages the model": {"damage": Damage.exact(1.4, 0.3, 0.6)},
    "no effect to remove": {"shift": Interval(0.02, -0.05, 0.09), "fraction_removed": UNDEFINED},
    "underpowered": {"shift": Interval(0.02, -0.3, 0.4), "detectable_shift": 0.5},
}
"""What must be otherwise in the evidence for every verdict."""


class Elements(HTMLParser):
    """What a browser makes of a page: its elements, and the text outside scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.scripts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        inside = self.cdata_elem
        (self.scripts if inside == "script" else self.text).append(data)

    def words(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.text))


def render(study: CausalVerdict) -> str:
    """The page of a study, from its plain data as JSON keeps them."""
    return render_ablation(json.loads(json.dumps(study.to_dict())), study.answer_rows())


def written_to(folder: Path, study: CausalVerdict) -> Path:
    return write_report(study.to_dict(), folder, study.answer_rows())


def table_of(study: CausalVerdict) -> Any:
    columns = FORMATS[0].columns
    assert columns is not None
    return answer_table(study.answer_rows(), columns)


@pytest.fixture(scope="module")
def page(study: CausalVerdict) -> str:
    return render(study)


@pytest.fixture(scope="module")
def parsed(page: str) -> Elements:
    return Elements(page)


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    text = (files("personaprobe.studies.reports") / "verdict.schema.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages without the five megabytes of plotly."""
    monkeypatch.setattr(shared, "plotly_script", lambda: "/* plotly */")


# one page that needs nothing else


def test_the_page_refers_to_nothing_outside_itself(page: str, parsed: Elements) -> None:
    addresses = [
        value
        for _, attributes in parsed.elements
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "data", "action", "poster", "background", "xlink:href")
    ]
    assert addresses == ["#reading"]
    without_plotly = page.replace(plotly_script(), "")
    assert not re.search(r"https?:|url\(|\bimport\b|fetch\(", without_plotly)
    assert not {"link", "iframe", "img", "object", "embed", "base"} & {tag for tag, _ in parsed.elements}


def test_the_policy_forbids_the_browser_to_load_anything(parsed: Elements) -> None:
    meta = next(a for tag, a in parsed.elements if tag == "meta" and a.get("http-equiv"))
    policy = str(meta["content"])
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy


def test_only_scripts_whose_bytes_are_in_the_policy_can_run(page: str, parsed: Elements) -> None:
    meta = next(a for tag, a in parsed.elements if tag == "meta" and a.get("http-equiv"))
    allowed = re.search(r"script-src ([^;]*);", str(meta["content"]))
    assert allowed is not None
    assert "unsafe" not in allowed[1]
    run = re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)
    assert [shared.script_digest(script) for script in run] == allowed[1].split()


def test_plotly_is_in_the_page_exactly_once(page: str) -> None:
    script = plotly_script()
    assert len(script) > 1_000_000
    assert page.count(script) == 1
    assert page.count("* plotly.js v") == 1


def test_no_tool_bar_button_sends_a_figure_away(page: str) -> None:
    assert CONFIG["showSendToCloud"] is False
    assert "sendDataToCloud" not in json.dumps(CONFIG["modeBarButtons"])
    assert json.dumps(CONFIG) in page


# text of a model stays text


def test_model_text_is_escaped(parsed: Elements, study: CausalVerdict) -> None:
    answers = {visible(r.answer.strip()) for arm in study.arms for r in arm.responses if r.answer}
    assert "<script>alert(1)</script>" in answers
    assert any(answer.startswith(r"\u202eright to left") for answer in answers)
    assert answers <= {piece.strip() for piece in _paragraphs(render_light(study))}
    tags = [tag for tag, _ in parsed.elements]
    assert not {"img", "b"} & set(tags)
    handlers = [name for _, attributes in parsed.elements for name in attributes if name.startswith("on")]
    assert handlers == []


def test_scripts_are_our_own_and_figures_only(parsed: Elements) -> None:
    kinds = [attributes.get("type") for tag, attributes in parsed.elements if tag == "script"]
    assert kinds == ["application/json"] * 5 + [None] * 2


def test_names_from_outside_cannot_leave_a_figure(study: CausalVerdict) -> None:
    nasty = '</script><script>alert(1)</script><b>&%{x}"'
    arms = tuple(replace(arm, note=nasty) for arm in study.arms)
    gaps = {f"{nasty}{i}": family for i, family in enumerate(study.family_gaps.values())}
    marked = replace(study, arms=arms, family_gaps=gaps)
    for draw in (arms_figure, removed_figure, family_figure):
        figure = draw(marked.to_dict())
        text = figure_json(figure)
        assert "<" not in text
        assert ">" not in text
        shown = json.dumps(json.loads(text)["data"])
        assert "<script" not in shown, (
            "plotly reads markup in labels and hover texts, so it is escaped there too"
        )
        assert "&lt;script&gt;alert" in shown.replace("<br>", "")


def test_templates_in_model_text_are_not_evaluated(parsed: Elements) -> None:
    assert "{{ 7 * 7 }} {% raw %}" in parsed.words()
    assert "49 {% raw" not in parsed.words()


# it states the verdict


def test_the_verdict_and_its_sentence_open_the_page(parsed: Elements, study: CausalVerdict) -> None:
    words = parsed.words()
    assert "toxic-persona in advice" in words
    assert study.verdict in words
    assert re.sub(r"\s+", " ", study.conclusion.sentence) in words


@pytest.mark.usefixtures("light")
@pytest.mark.parametrize("verdict", get_args(Verdict))
def test_every_verdict_renders_and_one_rule_has_won(
    verdict: Verdict, study: CausalVerdict, with_evidence: Callable[[Evidence], CausalVerdict]
) -> None:
    concluded = with_evidence(replace(study.evidence, **CHANGES[verdict]))
    assert concluded.verdict == verdict
    shown = render(concluded)
    won = re.findall(r'<tr class="won".*?</tr>', shown)
    assert len(won) == 1
    assert f'<th scope="row">{verdict}</th>' in won[0]
    assert f'<span class="badge">{concluded.conclusion.name}</span>' in shown
    # no style-balanced questions were answered here, so that an effect is never shown as clear
    assert ('<section class="verdict suppresses qualified"' in shown) == (verdict == "suppresses")
    assert f".{verdict.replace(',', '').replace(' ', '-')} {{ --tone" in shown


@pytest.mark.usefixtures("light")
def test_where_a_verdict_has_two_rules_the_one_that_decided_is_marked(
    study: CausalVerdict, with_evidence: Callable[[Evidence], CausalVerdict]
) -> None:
    wide = {"fraction_removed": Interval(0.4, -0.1, 0.9), "over_random": Interval(0.4, -0.2, 0.9)}
    unsure = {"fraction_removed": Interval(0.3, 0.05, 0.5), "over_random": Interval(0.3, 0.1, 0.5)}
    for changes, ends in ((wide, "includes both 0 and 60 %"), (unsure, "otherwise")):
        shown = render(with_evidence(replace(study.evidence, **changes)))
        (won,) = re.findall(r'<tr class="won".*?</tr>', shown)
        assert f"{ends}</td>" in won


def test_the_rules_table_shows_every_rule(page: str, study: CausalVerdict) -> None:
    for verdict, words in rules(study.thresholds):
        assert (
            f'<td class="wide">{escape(words, quote=False)}</td><th scope="row">{verdict}'
            in unescape_quotes(page)
        )


@pytest.mark.usefixtures("light")
def test_thresholds_that_are_not_the_own_ones_are_owned_up_to(study: CausalVerdict) -> None:
    assert "unchanged since the commit that brought the questions" in render(study)
    assert "given for this study" in render(replace(study, thresholds=Thresholds(suppresses_at=0.2)))


@pytest.mark.usefixtures("light")
def test_what_is_nan_says_not_measured(study: CausalVerdict) -> None:
    unmeasured = replace(study.evidence, damage=Damage(), fraction_removed=UNDEFINED)
    usual, words = (Elements(render(each)).words() for each in (study, replace(study, evidence=unmeasured)))
    assert words.count("not measured") == usual.count("not measured") + 5
    assert "no shift to measure it by" in words
    assert not re.search(r"\bnan\b", words, flags=re.IGNORECASE)


@pytest.mark.usefixtures("light")
def test_an_interval_without_end_says_so(study: CausalVerdict) -> None:
    open_ended = replace(study.evidence, fraction_removed=Interval(0.4, -math.inf, math.inf))
    assert "−∞ % to ∞ %" in Elements(render(replace(study, evidence=open_ended))).words()


def test_every_arm_has_its_row(page: str, study: CausalVerdict) -> None:
    assert all(f"</span> {arm.name}</th>" in page for arm in study.arms)


def test_the_strength_of_every_control_stands_at_every_layer_and_what_is_unfair_is_flagged(
    page: str, study: CausalVerdict
) -> None:
    (table,) = re.findall(r'<table class="arms strengths">.*?</table>', page, flags=re.DOTALL)
    rows = re.findall(r"<tr><th scope=.*?</tr>", table)
    assert len(rows) == len(study.controls) == 45
    for arm, row in zip(study.controls, rows, strict=True):
        assert f" {arm.name}</th>" in row
        assert all(f">{strength:.2f}</td>" in row for strength in arm.coefficients.values())
        assert row.count("unfair") == len(arm.unfair_layers) == 1
        assert f'<td class="n">{arm.draws}</td>' in row
        assert ("<td>yes</td>" in row) == arm.is_deciding


def test_massive_tokens_are_named(parsed: Elements) -> None:
    assert "'<|im_start|>' (first token): up to 182 × the median norm, layers 11-27" in parsed.words()


@pytest.mark.usefixtures("light")
def test_a_study_without_a_sweep_says_so(study: CausalVerdict) -> None:
    bare = {key: value for key, value in study.feature.items() if key != "evidence"}
    for feature in (bare, bare | {"evidence": {}}):
        unswept = replace(study, feature=feature)
        assert feature_sweep_map(unswept.to_dict()) is None
        assert "no sweep over layers and sources" in render(unswept)


@pytest.mark.usefixtures("light")
def test_a_study_without_doses_or_answers_says_so(silent: CausalVerdict) -> None:
    quiet = replace(silent, doses=())
    words = Elements(render(quiet)).words()
    assert "No answers were sampled." in words
    assert "No dose–response was measured." in words
    arms, _, _ = words.partition("Arms")[2].partition("Where the feature was found")
    unread = sum(math.isnan(arm.kl) for arm in quiet.arms)
    assert arms.count("not measured") == len(quiet.arms) + 2 * unread


def test_answers_stand_side_by_side_from_one_arm_of_each_kind(study: CausalVerdict) -> None:
    shown = list(question_cards(study.to_dict(), study.answer_rows()))
    assert len(shown) == len({r.question_id for r in study.arms[0].responses})
    for card in shown:
        assert [answer.kind for answer in card.shown].count("random") == 1
        assert {answer.kind for answer in card.shown} == set(SPEAKING)
        assert {answer.sample for answer in card.shown} == {0}
    assert sum(len(card.shown) + len(card.others) for card in shown) == sum(
        len(a.responses) for a in study.arms
    )


def test_incoherent_answers_are_marked(page: str, study: CausalVerdict) -> None:
    held = [study.coherence_rule.holds(r) for arm in study.arms for r in arm.responses]
    assert 0 < sum(held) < len(held)
    assert page.count('<span class="flag">incoherent</span>') == len(held) - sum(held)


def test_the_same_verdict_gives_the_same_page(study: CausalVerdict, page: str) -> None:
    assert render(study) == page


# figures


def test_every_kind_of_arm_has_its_own_colour_and_shape() -> None:
    assert set(STYLES) == set(get_args(ArmKind))
    for part in ("color", "symbol", "glyph"):
        assert len({getattr(style, part) for style in STYLES.values()}) == len(STYLES)


def test_every_treated_arm_is_drawn_once_with_the_share_it_removes(study: CausalVerdict) -> None:
    figure = removed_figure(study.to_dict())
    shares = sorted(x for trace in figure.data for x in trace.x)
    expected = [share.value for name, share in study.arm_removed.items() if study.arm(name).kind != "steered"]
    assert shares == pytest.approx(sorted(expected))
    rows = {name for trace in figure.data for name in trace.y}
    assert {"random", "covariance", "shuffled labels", "controls in base", "controls in secure"} <= rows
    assert len(rows) == len(expected) - 3 * 12


def test_a_verdict_of_an_earlier_version_has_no_figure_of_shares(study: CausalVerdict) -> None:
    data = study.to_dict()
    old = {**data, "arms": [{k: v for k, v in arm.items() if k != "removed"} for arm in data["arms"]]}
    assert removed_figure(old) is None


def test_the_arms_figure_draws_the_levels_of_five_arms_with_their_intervals(study: CausalVerdict) -> None:
    drawn = {}
    for trace in arms_figure(study.to_dict()).data:
        for name, x, up, down in zip(
            trace.y, trace.x, trace.error_x.array, trace.error_x.arrayminus, strict=True
        ):
            drawn[name] = (x, x - down, x + up)
    expected = {
        name: (gap.value, gap.low, gap.high)
        for name, gap in study.arm_gaps.items()
        if study.arm(name).kind in LEVELS
    }
    assert drawn == {name: pytest.approx(ends) for name, ends in expected.items()}


def test_costly_cells_are_hollow_and_the_chosen_one_is_framed(study: CausalVerdict) -> None:
    figure = feature_sweep_map(study.to_dict())
    sweep = study.feature["evidence"]["sweep"]
    costly = [row for row in sweep if row["perplexity_ratio"] > study.thresholds.max_perplexity_ratio]
    assert 0 < len(costly) < len(sweep)
    dashes = [shape.line.dash for shape in figure.layout.shapes]
    assert dashes.count("dot") == len(costly)
    assert dashes.count("solid") == 1
    maps = [trace for trace in figure.data if trace.type == "heatmap"]
    colored = sum(z is not None for trace in maps[::2] for line in trace.z for z in line)
    hollow = sum(z is not None for trace in maps[1::2] for line in trace.z for z in line)
    assert (colored, hollow) == (len(sweep) - len(costly), len(costly))


def test_no_cell_of_a_sweep_hides_another(study: CausalVerdict) -> None:
    figure = feature_sweep_map(study.to_dict())
    texts = [text for trace in figure.data if trace.type == "heatmap" for line in trace.text for text in line]
    assert len([text for text in texts if text]) == len(study.feature["evidence"]["sweep"])


def test_doses_are_drawn_in_three_panels_with_the_limit(study: CausalVerdict) -> None:
    figure = dose_figure(study.to_dict())
    assert {trace.yaxis for trace in figure.data} == {"y", "y2", "y3"}
    assert any("limit × 1.10" in str(note.text) for note in figure.layout.annotations)
    assert dose_figure(replace(study, doses=()).to_dict()) is None


def test_families_are_ordered_by_their_shift(study: CausalVerdict) -> None:
    order = family_figure(study.to_dict()).layout.yaxis.categoryarray
    shifts = {family: gaps["insecure"] - gaps["secure"] for family, gaps in study.family_gaps.items()}
    assert [label.replace("<br>", " ") for label in order] == [
        family.replace("_", " ") for family in sorted(shifts, key=lambda family: shifts[family])
    ]


def test_figures_say_their_units_and_adapt_to_the_screen(study: CausalVerdict) -> None:
    for figure in (arms_figure(study.to_dict()), family_figure(study.to_dict())):
        assert "nats per token" in figure.layout.xaxis.title.text
        assert figure.layout.autosize
        assert figure.layout.width is None
    assert CONFIG["responsive"]
    assert not CONFIG["displaylogo"]


def test_importing_the_report_imports_no_plotting() -> None:
    loaded = "import sys, personaprobe.studies.reports.run_folder; print({'plotly', 'jinja2', 'pyarrow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# the data beside the page


def test_verdict_json_obeys_its_schema(
    study: CausalVerdict, silent: CausalVerdict, schema: dict[str, Any]
) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    checker = jsonschema.Draft202012Validator(schema)
    checker.check_schema(schema)
    unsure = replace(
        study.evidence,
        fraction_removed=Interval(0.4, -math.inf, math.inf),
        over_random=UNDEFINED,
        damage=Damage(),
    )
    for verdict in (study, replace(silent, doses=()), replace(study, evidence=unsure)):
        checker.validate(json.loads(json.dumps(verdict.to_dict(), allow_nan=False)))
    with pytest.raises(jsonschema.ValidationError):
        checker.validate(study.to_dict() | {"verdict": "perhaps"})


def test_the_schema_describes_every_field(schema: dict[str, Any]) -> None:
    described = list(_described(schema))
    assert len(described) > 50
    assert [path for path, part in described if not part.get("description")] == []


def test_the_schema_names_what_programs_rely_on(study: CausalVerdict, schema: dict[str, Any]) -> None:
    data = study.to_dict()
    assert set(schema["properties"]) == set(schema["required"]) == set(data)
    for name in ("fraction_removed", "random_fraction_removed"):
        assert set(data[name]) == {"value", "low", "high"} == set(schema["$defs"]["interval"]["required"])
    assert set(data["damage"]) == {"perplexity_ratio", "kl", "chat_kl", "coherence", "judged_coherence"}
    assert {"verdict", "arms", "n_questions", "n_families", "provenance"} <= set(data)
    assert set(schema["properties"]["verdict"]["enum"]) == set(get_args(Verdict))
    assert set(schema["properties"]["arms"]["items"]["properties"]["kind"]["enum"]) == set(get_args(ArmKind))


def test_responses_are_rows_with_all_their_columns(study: CausalVerdict) -> None:
    table = table_of(study)
    columns = "arm kind question_id family question sample seed answer base_log_prob distinct coherent"
    assert table.column_names == columns.split()
    assert table.num_rows == sum(len(arm.responses) for arm in study.arms)
    given = [r for arm in study.arms for r in arm.responses]
    assert table["answer"].to_pylist() == [r.answer for r in given]
    assert table["coherent"].to_pylist() == [study.coherence_rule.holds(r) for r in given]


@pytest.mark.usefixtures("light")
def test_three_files_are_written_and_read_back(study: CausalVerdict, tmp_path: Path) -> None:
    from pyarrow import parquet

    written = written_to(tmp_path / "runs" / "toxic", study)
    assert written == tmp_path / "runs" / "toxic" / "report.html"
    assert {path.name for path in written.parent.iterdir()} == {
        "report.html",
        "verdict.json",
        "responses.parquet",
    }
    assert json.loads((written.parent / "verdict.json").read_text(encoding="utf-8")) == study.to_dict()
    assert parquet.read_table(written.parent / "responses.parquet").equals(table_of(study))
    assert written.read_text(encoding="utf-8") == render(study)


@pytest.mark.usefixtures("light")
def test_a_study_without_answers_writes_an_empty_table_of_the_same_columns(
    study: CausalVerdict, silent: CausalVerdict, tmp_path: Path
) -> None:
    from pyarrow import parquet

    written_to(tmp_path, silent)
    table = parquet.read_table(tmp_path / "responses.parquet")
    assert table.num_rows == 0
    assert table.schema.equals(table_of(study).schema)


@pytest.mark.usefixtures("light")
def test_a_folder_that_is_a_file_is_refused(study: CausalVerdict, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("here first")
    with pytest.raises(OutputError, match="choose another folder"):
        written_to(tmp_path / "taken", study)
    assert (tmp_path / "taken").read_text() == "here first"


@pytest.mark.usefixtures("light")
@pytest.mark.parametrize("full_at", ["responses.parquet", "verdict.json", "report.html"])
def test_a_full_disk_is_an_error_and_leaves_nothing_half_written(
    full_at: str, study: CausalVerdict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, target: Path) -> Path:
        if target.name == full_at:
            raise OSError(28, "No space left on device")
        return original(self, target)

    original = Path.replace
    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OutputError, match="No space left"):
        written_to(tmp_path, study)
    names = ["responses.parquet", "verdict.json", "report.html"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names[: names.index(full_at)])


def render_light(study: CausalVerdict) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shared, "plotly_script", lambda: "/* plotly */")
        return render(study)


def unescape_quotes(page: str) -> str:
    return page.replace("&#39;", "'").replace("&#34;", '"')


def _paragraphs(page: str) -> Iterator[str]:
    """The answers as a browser would show them."""
    yield from (unescape(text) for text in re.findall(r'<p dir="auto">(.*?)</p>', page, flags=re.DOTALL))


def _described(part: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every field of a schema, with where it is."""
    for name, inner in {**part.get("properties", {}), **part.get("$defs", {})}.items():
        yield f"{path}.{name}", inner
        yield from _described(inner, f"{path}.{name}")
    for name in ("items", "additionalProperties"):
        if isinstance(part.get(name), dict):
            yield f"{path}.{name}", part[name]
            yield from _described(part[name], f"{path}.{name}")
