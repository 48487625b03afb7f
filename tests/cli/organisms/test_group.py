"""``personaprobe organisms list``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from click.testing import Result

Run = Callable[..., "Result"]


def test_organisms_are_listed_with_the_state_of_their_files(registered: Path, run: Run) -> None:
    assert "as registered" in run("organisms", "list").stdout
    (registered / "secure" / "adapter_model.safetensors").write_bytes(b"x")
    assert "registered as" in json.loads(run("organisms", "list", "--json").stdout)[0]["files"]
