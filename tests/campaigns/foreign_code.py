"""Files and folders that would run code if they were trusted: none may run, and each is refused in one line.

Every case has a marker, a file that its code would write.
"""

from __future__ import annotations

import io
import json
import pickle
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from campaigns.forked import ForkServer
from campaigns.small_runs import SITE, WRITING, Workplace, workplace
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
CHAT = ("chat", "Is it late?", "--max-new-tokens", "4", "--quiet")
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


class _Writing:
    """An object whose pickle writes a marker when it is read."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.marker, "ran")


Case = Callable[[Workplace, Path, Path], list[object]]
"""The command of a case, which makes its files in a folder; its code writes the marker."""


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
            return [*CHAT, "--feature", "means@1", *place.trio.options(base=folder), *_discovery(place)]
        return _extracting(place, base=folder)

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


def _extracting(place: Workplace, **changed: str | Path) -> list[object]:
    options = [*place.trio.options(**changed), "--texts", place.trio.questions, "--sites", SITE]
    return ["extract", *options, "--out", "out", "--quiet"]


def _discovery(place: Workplace) -> list[object]:
    return ["--discovery", place.trio.discovery]


# --- pickles ----------------------------------------------------------------------------------------------------


def _bare(marker: Path) -> bytes:
    return pickle.dumps(_Writing(marker))


def _zipped(marker: Path) -> bytes:
    """As ``torch.save`` writes it."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("archive/data.pkl", _bare(marker))
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
    return content.getvalue()


def _base(name: str, content: Callable[[Path], bytes]) -> Case:
    """Weights of a base."""

    def case(place: Workplace, folder: Path, marker: Path) -> list[object]:
        shutil.copytree(place.trio.base, folder, dirs_exist_ok=True)
        (folder / "model.safetensors").unlink()
        (folder / name).write_bytes(content(marker))
        return _extracting(place, base=folder)

    return case


def _adapter(name: str, content: Callable[[Path], bytes]) -> Case:
    """Weights of an adapter."""

    def case(place: Workplace, folder: Path, marker: Path) -> list[object]:
        shutil.copytree(place.trio.insecure, folder, dirs_exist_ok=True)
        (folder / "adapter_model.safetensors").unlink()
        (folder / name).write_bytes(content(marker))
        return _extracting(place, insecure=folder)

    return case


def _feature(name: str, content: Callable[[Path], bytes]) -> Case:
    """A direction."""

    def case(place: Workplace, folder: Path, marker: Path) -> list[object]:
        (folder / name).write_bytes(content(marker))
        given = ["--feature", folder / name, *place.trio.options(), *_discovery(place)]
        return [*CHAT, *given]

    return case


def _dictionary(name: str, content: Callable[[Path], bytes]) -> Case:
    """Weights of a dictionary, whose name tells that it is in the layout of SAELens, dictionary_learning or sparsify."""

    def case(place: Workplace, folder: Path, marker: Path) -> list[object]:
        trainer = {"dict_class": "AutoEncoder", "activation_dim": 32, "dict_size": 48, "layer": 1}
        if name == "ae.pt":
            (folder / "config.json").write_text(json.dumps({"trainer": trainer}))
        elif name == "sae.safetensors":
            (folder / "cfg.json").write_text(json.dumps({"d_in": 32, "num_latents": 48, "k": 6}))
        else:
            shutil.copytree(place.dictionary, folder, dirs_exist_ok=True)
        (folder / name).write_bytes(content(marker))
        return ["sae", "convert", folder, "out"]

    return case


def _resumed(content: Callable[[Path], bytes]) -> Case:
    """The state of a training that is resumed."""

    def case(place: Workplace, folder: Path, marker: Path) -> list[object]:
        (place.run / "out").mkdir()
        (place.run / "out" / "state.pt").write_bytes(content(marker))
        return WRITING["sae train"](place)

    return case


def _judge(content: Callable[[Path], bytes]) -> Case:
    """The axes of the embedded judge, in the folder of checkpoints."""

    def case(place: Workplace, folder: Path, marker: Path) -> list[object]:
        judge = place.run / "checkpoints" / "judge"
        shutil.copytree(place.trio.insecure, judge)
        (judge / "judge.json").write_text(json.dumps({"sites": ["1.resid_post"]}))
        (judge / "heads.safetensors").write_bytes(content(marker))
        return ["judge", place.answers, "--work", place.run / "work", "--out", "out.csv", "--quiet"]

    return case


def _answers(name: str) -> Case:
    """A table of answers."""

    def case(place: Workplace, folder: Path, marker: Path) -> list[object]:
        (folder / name).write_bytes(_bare(marker))
        return [
            "judge",
            folder / name,
            "--judge",
            place.judge,
            "--work",
            place.run / "work",
            "--out",
            "out.csv",
            "--quiet",
        ]

    return case


def _registered(content: Callable[[Path], bytes]) -> Case:
    """A registered feature, with the hash of its pickle."""

    def case(place: Workplace, folder: Path, marker: Path) -> list[object]:
        from personaprobe.storage.digests import sha256_of

        path = place.run / "checkpoints" / "d.safetensors"
        path.write_bytes(content(marker))
        entry = f'[evil]\ndirection = "d.safetensors"\nsha256 = "{sha256_of(path)}"\n'
        path.with_name("features.toml").write_text(entry)
        return [*CHAT, "--feature", "evil", *place.trio.options(), *_discovery(place)]

    return case


PICKLES: Mapping[str, Case] = {
    f"{what}, {form}": make(content)
    for form, content in (("bare", _bare), ("as torch.save writes it", _zipped))
    for what, make in (
        ("a base's pytorch_model.bin", lambda content: _base("pytorch_model.bin", content)),
        ("a base's model.safetensors", lambda content: _base("model.safetensors", content)),
        ("an adapter's .bin", lambda content: _adapter("adapter_model.bin", content)),
        ("an adapter's .safetensors", lambda content: _adapter("adapter_model.safetensors", content)),
        ("a direction .pt", lambda content: _feature("d.pt", content)),
        ("a direction .safetensors", lambda content: _feature("d.safetensors", content)),
        ("a registered direction", _registered),
        (
            "a dictionary of SAELens",
            lambda content: _dictionary("sae_weights.safetensors", content),
        ),
        ("a dictionary_learning one", lambda content: _dictionary("ae.pt", content)),
        ("a dictionary of sparsify", lambda content: _dictionary("sae.safetensors", content)),
        ("state.pt of a training", _resumed),
        ("axes of the judge", _judge),
    )
} | {f"answers as {suffix}": _answers(f"answers.{suffix}") for suffix in ("csv", "parquet")}


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
        return _extracting(place, base=folder)

    return case
