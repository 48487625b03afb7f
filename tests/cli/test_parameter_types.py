"""Types of option values: how they are written, and what is refused."""

from __future__ import annotations

from typing import Any

import click
import pytest

from personaprobe.cli.parameter_types import LayersType


@pytest.mark.parametrize(
    ("text", "layers"),
    [("all", "all"), ("16", (16,)), ("8-10", (8, 9, 10)), ("8,10,12", (8, 10, 12)), ("1, 3-4,3", (1, 3, 4))],
)
def test_layers_are_written_as_one_would(text: str, layers: Any) -> None:
    assert LayersType().convert(text, None, None) == layers


@pytest.mark.parametrize("text", ["", "a", "8-", "9-8", "-1", "1;2"])
def test_layers_that_cannot_be_read_are_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="write all, 16, 8-20 or 8,10,12"):
        LayersType().convert(text, None, None)


@pytest.mark.parametrize(
    "text", ["0-99999999", "0-999999", "10000", f"1-{'9' * 5000}", "9" * 5000, "१-३", "x" * 5000]
)
def test_layers_that_no_model_has_are_refused_before_they_are_written_out(text: str) -> None:
    with pytest.raises(click.BadParameter, match="write all, 16") as refused:
        LayersType().convert(text, None, None)
    assert len(refused.value.message) < 300
