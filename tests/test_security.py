"""What SECURITY.md promises: nothing of others is executed, and only named addresses are contacted."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from personaprobe.errors import CheckpointError
from personaprobe.models.loading import Placement, load
from personaprobe.models.weights.checkpoint import Checkpoint

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "personaprobe"

EXECUTING = {
    *("eval", "exec", "compile", "__import__"),
    *("os.system", "os.popen", "subprocess.run", "subprocess.Popen", "subprocess.check_output"),
    *("pickle.load", "pickle.loads", "joblib.load", "marshal.loads"),
}
NETWORK = {"httpx", "requests", "urllib.request", "socket", "aiohttp", "openai", "http.client", "wandb"}
CONTACTS = {"questions/download.py", "models/chat_models.py"}
"""The modules that may open a connection by themselves."""

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


def test_only_two_modules_contact_servers_by_themselves() -> None:
    importing = set()
    for module, node in nodes():
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        if any(name == bad or name.startswith(f"{bad}.") for name in names for bad in NETWORK):
            importing.add(module)
    assert importing <= CONTACTS


def test_code_in_a_model_repository_is_refused_without_a_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = tmp_path / "marker"
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "evil.py").write_text(EVIL.format(marker=str(marker)))
    auto_map = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
    config = {"model_type": "evil", "architectures": ["Model"], "auto_map": auto_map}
    (folder / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr("builtins.input", lambda prompt="": "y")
    with pytest.raises(CheckpointError, match="cannot load"):
        load(Checkpoint(str(folder)), Placement("cpu"))
    assert not marker.exists()
