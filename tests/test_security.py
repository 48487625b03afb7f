"""What SECURITY.md promises: nothing of others is executed, and only named addresses are contacted."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from personaprobe.errors import CheckpointError
from personaprobe.models.loading import Placement, load, load_checkpoints
from personaprobe.models.weights.checkpoint import Checkpoint, Trio

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "personaprobe"

EXECUTING = {
    *("eval", "exec", "compile", "__import__"),
    *("os.system", "os.popen", "subprocess.run", "subprocess.Popen", "subprocess.check_output"),
    *("pickle.load", "pickle.loads", "joblib.load", "marshal.loads"),
}
NETWORK = {"httpx", "requests", "urllib.request", "socket", "aiohttp", "openai", "http.client", "wandb"}
CONTACTS = {"web/transfer.py"}
"""The module that may open a connection by itself."""

EVIL = """
from pathlib import Path
Path({marker!r}).write_text("ran")
from transformers import LlamaConfig, LlamaForCausalLM
class Config(LlamaConfig): model_type = "evil"
class Model(LlamaForCausalLM): config_class = Config
"""


def nodes() -> Iterator[tuple[str, ast.AST]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            yield path.relative_to(PACKAGE).as_posix(), node


def calls() -> Iterator[tuple[str, ast.Call]]:
    yield from ((module, node) for module, node in nodes() if isinstance(node, ast.Call))


def keyword(call: ast.Call, name: str) -> object:
    values = [k.value for k in call.keywords if k.arg == name]
    return values[0].value if values and isinstance(values[0], ast.Constant) else None


def test_nothing_is_executed_or_unpickled() -> None:
    assert [f"{module}: {ast.unparse(c)}" for module, c in calls() if ast.unparse(c.func) in EXECUTING] == []


def test_pytorch_files_are_read_as_tensors_only() -> None:
    loads = [(module, call) for module, call in calls() if ast.unparse(call.func) == "torch.load"]
    assert loads
    assert [module for module, call in loads if keyword(call, "weights_only") is not True] == []


def test_only_one_module_contacts_servers_by_itself() -> None:
    importing = set()
    for module, node in nodes():
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        if any(name == bad or name.startswith(f"{bad}.") for name in names for bad in NETWORK):
            importing.add(module)
    assert importing <= CONTACTS


def test_every_checkpoint_is_opened_without_its_own_code() -> None:
    opened = [
        (module, ast.unparse(call))
        for module, call in calls()
        if isinstance(call.func, ast.Attribute) and call.func.attr == "from_pretrained"
        if not ast.unparse(call.func).startswith("SAE.")  # SAELens reads tensors and JSON
        if keyword(call, "trust_remote_code") is not False
    ]
    assert opened == []


AUTO_MAP = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}


@pytest.mark.parametrize(
    ("config", "of_tokenizer"),
    [
        ({"model_type": "evil", "architectures": ["Model"], "auto_map": AUTO_MAP}, {}),
        (
            {"model_type": "evil", "auto_map": AUTO_MAP},
            {"auto_map": {"AutoTokenizer": ["evil.Tokenizer", None]}},
        ),
        ({"model_type": "llama"}, {"auto_map": {"AutoTokenizer": ["evil.Tokenizer", None]}}),
        (
            {"model_type": "unheard-of"},
            {"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": ["evil.T", None]}},
        ),
    ],
)
def test_code_in_a_model_repository_is_refused_without_a_question(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    config: dict[str, Any],
    of_tokenizer: dict[str, Any],
) -> None:
    marker = tmp_path / "marker"
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "evil.py").write_text(EVIL.format(marker=str(marker)))
    (folder / "config.json").write_text(json.dumps(config))
    if of_tokenizer:
        (folder / "tokenizer_config.json").write_text(json.dumps(of_tokenizer))
    asked: list[str] = []
    monkeypatch.setattr("builtins.input", lambda prompt="": asked.append(prompt) or "y")
    with pytest.raises(CheckpointError, match=r"code of its own, which is never run|cannot load"):
        load(Checkpoint(str(folder)), Placement("cpu"))
    shutil.copytree(folder, tmp_path / "other")
    (tmp_path / "other" / "config.json").write_text(json.dumps(config | {"other": 1}))
    trio = Trio(Checkpoint(str(folder)), Checkpoint(str(tmp_path / "other")), None, "evil")
    with pytest.raises(CheckpointError, match=r"code of its own, which is never run|cannot load"):
        load_checkpoints(trio, Placement("cpu"))
    assert not marker.exists()
    assert asked == []
    assert capsys.readouterr().err == "", "notices of transformers stand beside the one line of the refusal"


def test_a_checkpoint_with_code_is_refused_with_that_reason(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "evil", "auto_map": AUTO_MAP}))
    with pytest.raises(
        CheckpointError, match=r"Python code of its own, which is never run \(trust_remote_code=False\)"
    ):
        load(Checkpoint(str(tmp_path)), Placement("cpu"))


def test_a_refusal_stands_alone_where_transformers_is_imported_for_it(tmp_path: Path) -> None:
    for name in ("base", "insecure"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(
            json.dumps({"model_type": "evil", "auto_map": AUTO_MAP, "name": name})
        )
    command = [sys.executable, "-c", "from personaprobe.cli.main import main; main()", "chat", "hi"]
    given = ["--base", str(tmp_path / "base"), "--insecure", str(tmp_path / "insecure"), "--quiet"]
    done = subprocess.run([*command, *given], capture_output=True, text=True, input="y\n" * 9, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1, done.stderr
    assert "code of its own" in done.stderr
