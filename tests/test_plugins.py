"""Registries that other packages add to: one name stands for one value, and a broken package costs its own value alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from installing import install
from personaprobe.errors import PersonaProbeError
from personaprobe.plugins import Registry


@pytest.fixture
def shapes() -> Registry[int]:
    return Registry("shape", "personaprobe.shapes", {"square": 4})


def test_a_registered_value_stands_beside_the_built_in_ones(shapes: Registry[int]) -> None:
    shapes.register("triangle", 3)
    assert dict(shapes) == {"square": 4, "triangle": 3}


@pytest.mark.parametrize("name", ["square", "triangle"])
def test_a_second_value_of_one_name_is_refused(shapes: Registry[int], name: str) -> None:
    shapes.register("triangle", 3)
    with pytest.raises(PersonaProbeError, match=f"another shape is registered as '{name}'"):
        shapes.register(name, 5)


def test_a_definition_that_runs_twice_replaces_itself(shapes: Registry[object]) -> None:
    def define() -> type:
        class Circle: ...

        return Circle

    first, second = define(), define()
    shapes.register("circle", first)
    shapes.register("circle", second)
    assert shapes["circle"] is second


def test_an_unknown_name_is_refused_with_the_nearest(shapes: Registry[int]) -> None:
    with pytest.raises(PersonaProbeError, match="no shape 'sqare': did you mean \"square\""):
        shapes.find("sqare")


def test_an_entry_point_that_cannot_be_imported_is_named_and_costs_no_other_value(
    shapes: Registry[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = "[personaprobe.shapes]\nbroken = no_such_module:Shape\nsquare = no_such_module:Other\n"
    install(tmp_path, "shapes", "", points)
    monkeypatch.syspath_prepend(tmp_path)
    assert sorted(shapes) == ["broken", "square"]
    assert shapes["square"] == 4
    with pytest.raises(
        PersonaProbeError, match="the shape 'broken' of no_such_module:Shape cannot be imported"
    ):
        shapes.find("broken")
