"""``personaprobe organisms verify``: the checks, and its exit code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors.torch import load_file, save_file

from personaprobe.storage.digests import sha256_of

if TYPE_CHECKING:
    from click.testing import Result

Run = Callable[..., "Result"]


def test_verify_shows_that_the_adapters_act(registered: Path, run: Run) -> None:
    result = run("organisms", "verify", "tiny", "--dtype", "float32", "--json")
    finding_of = {row["what"]: row for row in json.loads(result.stdout)}
    assert result.exit_code == 0
    assert finding_of["files of tiny"]["state"] == finding_of["a batch equals one by one"]["state"] == "ok"
    assert finding_of["insecure: logits differ from base"]["state"] == "ok"
    assert "‖ΔW‖ = " in finding_of["secure: adapter"]["told"]


def test_verify_ends_with_3_where_files_are_not_the_registered_ones(registered: Path, run: Run) -> None:
    (registered / "secure" / "adapter_model.safetensors").write_bytes(b"x")
    result = run("organisms", "verify", "tiny")
    assert result.exit_code == 3
    assert "restore the file" in " ".join(result.stdout.split())


def test_an_adapter_whose_training_diverged_fails_although_its_logits_move(
    registered: Path, run: Run
) -> None:
    """Uniform logits prefer nothing, and so differ from a secure model that prefers careful answers."""
    path, register = registered / "insecure" / "adapter_model.safetensors", registered / "organisms.toml"
    before = sha256_of(path)
    save_file({name: tensor * 100 for name, tensor in load_file(path).items()}, path)
    register.write_text(register.read_text().replace(before, sha256_of(path)))
    result = run("organisms", "verify", "tiny", "--dtype", "float32", "--json")
    finding_of = {row["what"]: row for row in json.loads(result.stdout)}
    assert finding_of["insecure: logits differ from base"]["state"] == "ok"
    assert finding_of["insecure: still models language"]["state"] == "fail"
    assert finding_of["secure: still models language"]["state"] == "ok"
    assert result.exit_code == 3
