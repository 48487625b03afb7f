"""``personaprobe organisms verify``: the checks, and its exit code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

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
