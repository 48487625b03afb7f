"""Errors and notes in one line."""

from __future__ import annotations

import warnings

import pytest

from personaprobe.cli.terminal.exit_codes import warnings_in_one_line
from personaprobe.errors import CheckpointWarning, FallbackWarning


@pytest.mark.parametrize("kind", [FallbackWarning, CheckpointWarning])
def test_a_note_is_one_line_and_other_warnings_stay_as_they_are(kind: type[Warning]) -> None:
    usual = warnings.formatwarning
    with warnings_in_one_line():
        assert (
            warnings.formatwarning(kind("read in\n halves"), kind, "here.py", 3) == "note: read in halves\n"
        )
        other = UserWarning("odd")
        assert warnings.formatwarning(other, UserWarning, "here.py", 3) == usual(
            other, UserWarning, "here.py", 3
        )
    assert warnings.formatwarning is usual
