"""YAML files: plain data with unique keys; repetitions by alias are counted before they are written out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from personaprobe.errors import DataError, one_line, shortened
from personaprobe.storage.plain_json import DEEPEST, refuse_unusual
from personaprobe.storage.readers.opening import MIB, ErrorClass, decoded, read_bytes, refusing

LARGEST_YAML = 4 * MIB
"""Bytes of a YAML file; people write them by hand."""

MOST_VALUES = 200_000
"""Values of a YAML file, each counted as often as aliases repeat it."""

LONGEST_NUMBER = 64
"""Characters of a number or a date."""

_SHORT_TAGS = ("int", "float", "timestamp")


def read_yaml(path: Path, error: ErrorClass = DataError) -> Any:
    """Read a YAML file of one document.

    Raises:
        PersonaProbeError: of the class ``error``: it cannot be read, is not UTF-8 or not YAML (line and column), repeats a
            key, is nested too deeply, repeats too much by aliases, or holds a value that cannot be used.
    """
    return parse_yaml(read_bytes(path, error, LARGEST_YAML), path, error)


def parse_yaml(content: bytes, place: object, error: ErrorClass = DataError) -> Any:
    """Parse the content of a YAML file; see :func:`read_yaml`.

    Args:
        content: bytes of the file.
        place: where they came from, for the error message.
        error: the class to raise.
    """
    import yaml

    text = decoded(content, place, error)
    with refusing(place, "YAML", error):
        _refuse_deep(text)
        loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
        try:
            node = loader.get_single_node()
            if node is not None:
                _check(node)
            value = None if node is None else loader.construct_document(node)
        finally:
            loader.dispose()
    refuse_unusual(value, place, error)
    return value


def _refuse_deep(text: str) -> None:
    """Raise where collections are nested too deeply, from the flat sequence of events: the composer is recursive in C."""
    import yaml

    depth = 0
    for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise ValueError(f"it is nested more than {DEEPEST} levels deep")


def _check(root: Any) -> None:
    """Walk a node graph as if aliases were written out; a node that holds itself exceeds the bound too."""
    import yaml

    pending, n_values = [root], 0
    while pending:
        node = pending.pop()
        n_values += 1
        if n_values > MOST_VALUES:
            raise ValueError(f"its aliases repeat more than {MOST_VALUES:,} values")
        if isinstance(node, yaml.MappingNode):
            _refuse_repeated_keys(node)
            pending += (part for pair in node.value for part in pair)
        elif isinstance(node, yaml.SequenceNode):
            pending += node.value
        elif node.tag.rpartition(":")[2] in _SHORT_TAGS and len(node.value) > LONGEST_NUMBER:
            raise ValueError(
                f"line {node.start_mark.line + 1}: {shortened(node.value, 30)} is too long for a number"
            )


def _refuse_repeated_keys(mapping: Any) -> None:
    names: set[tuple[str, str]] = set()
    for key, _ in mapping.value:
        if not isinstance(key.value, str):
            raise ValueError(f"line {key.start_mark.line + 1}: a list or mapping is no key")
        name = (key.tag, key.value)
        if name in names:
            raise ValueError(f"line {key.start_mark.line + 1} repeats the key {one_line(key.value, 60)!r}")
        names.add(name)
