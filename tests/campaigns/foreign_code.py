"""Files and folders that would run code if they were trusted: none may run, and each is refused in one line.

Every case has a marker, a file that its code would write.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from campaigns.forked import ForkServer
from campaigns.pickles import PICKLES
from campaigns.small_runs import WRITING, Case, Workplace, chatting, extracting, workplace
from campaigns.tally import Tally

EVIL = """
from pathlib import Path
Path({marker!r}).write_text("ran")
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
class Config(LlamaConfig): model_type = "evil"
class Model(LlamaForCausalLM): config_class = Config
class Tokenizer(PreTrainedTokenizerFast): pass
def generate(*_, **__): pass
"""
WARMED = ("extract", "judge", "sae convert")
"""Verbs whose imports serve all cases."""
YES = "yes\ny\n" * 8
"""For whoever asks on stdin whether to trust the code."""
MAPPED = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model", "AutoModel": "evil.Model"}
TOKENIZER = {"AutoTokenizer": ["evil.Tokenizer", "evil.Tokenizer"]}
ESCAPES = {
    "the subclasses of object": "{{{{ ''.__class__.__mro__[1].__subclasses__() }}}}",
    "the globals of cycler": "{{{{ cycler.__init__.__globals__.os.system('touch {marker}') }}}}",
    "the globals of lipsum": "{{{{ lipsum.__globals__['os'].popen('touch {marker}').read() }}}}",
    "the globals of an exception": "{{{{ raise_exception.__globals__['__builtins__']['open']('{marker}', 'w') }}}}",
    "an attribute by its name": "{{{{ (messages|attr('__class__'))|attr('__mro__') }}}}",
    "the context of the template": "{{{{ self._TemplateReference__context.environment }}}}",
    "a format of text": "{{{{ '{{0.__class__.__init__.__globals__}}'.format(raise_exception) }}}}",
    "the code of a function": "{{{{ strftime_now.__code__.co_consts }}}}",
}
"""Chat templates that leave Jinja's sandbox, if they can."""


IGNORED = (
    "known model type",
    "known model type of an unknown class",
    "tokenizer alone",
    "an attribute by its name",
)
"""Cases that may be accepted: the library's own class is taken for the folder's, and what the sandbox hides is empty."""


def foreign_code(seed: int, size: int, folder: Path) -> list[Tally]:
    """Give every case to the command line, with consent on stdin.

    Args:
        seed: there is nothing to choose.
        size: as seed.
        folder: an empty one, for everything.
    """
    with ExitStack() as stack:
        place = stack.enter_context(workplace(folder))
        server = stack.enter_context(ForkServer())
        return run_cases(dict(cases()), place, server)


def run_cases(chosen: Mapping[tuple[str, str], Case], place: Workplace, server: ForkServer) -> list[Tally]:
    """Run cases, counted by subject.

    Args:
        chosen: cases by subject and name.
        place: where they run.
        server: runs them.
    """
    for verb in WARMED:
        place.clean()
        server.run(replace(place.job(WRITING[verb](place)), warms=True))
    tallies: dict[str, Tally] = {}
    for number, ((subject, name), case) in enumerate(chosen.items()):
        place.clean()
        marker, evil = place.run.parent / f"marker-{number}", place.run / "evil"
        evil.mkdir()
        ended = server.run(replace(place.job(case(place, evil, marker)), stdin=YES, deadline=60))
        tally = tallies.get(subject, Tally("foreign code", subject))
        fault = "its code ran" if marker.exists() else ended.fault
        if fault is None and ended.code != 2 and name.partition(",")[0] not in IGNORED:
            fault = f"accepted with exit code {ended.code}"
        if fault is None and "would you like" in f"{ended.out}{ended.err}".lower():
            fault = "asked on stdin"
        failure = None if fault is None else f"{subject}, {name}: {fault}"
        counts = {"accepted": int(ended.code == 0), "refused": int(ended.code == 2)}
        tallies[subject] = tally.plus(tried=1, checked=1, failure=failure, **counts)
    return list(tallies.values())


def cases() -> Iterator[tuple[tuple[str, str], Case]]:
    """All cases, with subject and name."""
    for name, (config, of_tokenizer) in MODELS.items():
        for verb in ("chat", "extract"):
            yield ("code in a model folder", f"{name}, {verb}"), _model(config, of_tokenizer, verb)
    for name, case in PICKLES.items():
        yield ("pickles", name), case
    for name, text in TAGS.items():
        yield ("YAML tags", f"{name}, questions"), _yaml(text, "--questions")
        yield ("YAML tags", f"{name}, rubrics"), _yaml(text, "--rubrics")
    for name, template in ESCAPES.items():
        yield ("chat templates", name), _template(template)


# --- code in a model folder -------------------------------------------------------------------------------------

MODELS: Mapping[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "unknown model type": ({"model_type": "evil", "architectures": ["Model"], "auto_map": MAPPED}, {}),
    "unknown model type and tokenizer": ({"model_type": "evil", "auto_map": MAPPED}, {"auto_map": TOKENIZER}),
    "known model type": ({"auto_map": MAPPED}, {}),
    "known model type of an unknown class": ({"architectures": ["Model"], "auto_map": MAPPED}, {}),
    "tokenizer alone": ({}, {"auto_map": TOKENIZER}),
    "tokenizer of an unknown class": ({}, {"tokenizer_class": "Tokenizer", "auto_map": TOKENIZER}),
    "no model type": ({"model_type": None, "auto_map": MAPPED}, {}),
    "code of another repository": (
        {"model_type": "evil", "auto_map": {"AutoConfig": "a/b--evil.Config"}},
        {},
    ),
}
"""Changes of ``config.json`` and of ``tokenizer_config.json`` of a folder that is otherwise whole."""


def _model(config: dict[str, Any], of_tokenizer: dict[str, Any], verb: str) -> Case:
    def case(place: Workplace, folder: Path, marker: Path) -> list[object]:
        _copy_base(place, folder, marker)
        _change_json(folder / "config.json", config)
        _change_json(folder / "tokenizer_config.json", of_tokenizer)
        if of_tokenizer.get("tokenizer_class"):
            (folder / "tokenizer.json").unlink()
        if verb == "chat":
            return chatting(place, "means@1", base=folder)
        return extracting(place, base=folder)

    return case


def _copy_base(place: Workplace, folder: Path, marker: Path) -> None:
    """A whole model folder, with code in every place where transformers looks for it."""
    shutil.copytree(place.trio.base, folder, dirs_exist_ok=True)
    (folder / "evil.py").write_text(EVIL.format(marker=str(marker)))
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate" / "generate.py").write_text(EVIL.format(marker=str(marker)))


def _change_json(path: Path, changes: dict[str, Any]) -> None:
    value = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: item for key, item in value.items() if item is not None}))


# --- YAML and Jinja -----------------------------------------------------------------------------------------------

TAGS: Mapping[str, str] = {
    "a function": "!!python/object/apply:os.system ['touch {marker}']",
    "an object": "!!python/object/new:subprocess.Popen [['touch', '{marker}']]",
    "a module": "!!python/module:this ''",
    "a name": "!!python/name:os.system ''",
    "a tuple": "!!python/tuple [!!python/object/apply:os.system ['touch {marker}']]",
}


def _yaml(text: str, option: str) -> Case:
    """A question file whose paraphrases, or whose judge's prompts, hold a tag of Python."""

    def case(place: Workplace, folder: Path, marker: Path) -> list[object]:
        path = folder / "questions.yaml"
        path.write_text(f"- {{id: a, paraphrases: [{text.format(marker=marker)}], judge_prompts: {{}}}}\n")
        if option == "--rubrics":
            given = ["--judge", place.judge, "--work", place.run / "work", "--out", "out.csv", "--quiet"]
            return ["judge", place.answers, *given, option, path]
        given = [
            "--judge",
            place.judge,
            "--samples",
            1,
            "--least",
            1,
            "--max-new-tokens",
            4,
            "--form",
            "none",
        ]
        return [
            "eval",
            "--feature",
            "none",
            *place.trio.options(),
            option,
            path,
            *given,
            "--out",
            "out",
            "--quiet",
        ]

    return case


def _template(template: str) -> Case:
    """A chat template of a base that tries to leave the sandbox, beside a good one."""

    def case(place: Workplace, folder: Path, marker: Path) -> list[object]:
        shutil.copytree(place.trio.base, folder, dirs_exist_ok=True)
        path = folder / "chat_template.jinja"
        good = path.read_text() if path.is_file() else ""
        path.write_text(template.format(marker=marker) + good)
        return extracting(place, base=folder)

    return case
