"""Count what a reader of the code meets: files per folder, sizes, names that stand in several modules.

python -m tests.structure
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "personaprobe"

KINDS_OF_FEATURE = ("Direction", "Recipe", "Latents", "DirectionTarget", "DirectionRecipe", "LatentsTarget")
"""Classes of which a feature may be an instance; code that asks which one it is would need a branch for each new kind."""

CONVERSIONS = ("effects/targets/feature.py",)
"""Modules that turn a public argument into a feature: the one place where a bare direction may be given."""


@dataclass(frozen=True)
class Function:
    """A function with its length in lines, the docstring left out."""

    module: str
    name: str
    lines: int
    parameters: int


def modules() -> list[Path]:
    """All modules of the package, ``__init__`` files left out."""
    return sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")


def name_of(path: Path) -> str:
    """A module as its path below the package."""
    return path.relative_to(PACKAGE).as_posix()


@cache
def tree_of(path: Path) -> ast.Module:
    """A parsed module."""
    return ast.parse(path.read_text(encoding="utf-8"))


def files_per_folder() -> dict[str, int]:
    """Number of modules in each folder."""
    counts: dict[str, int] = defaultdict(int)
    for path in modules():
        counts[path.parent.relative_to(PACKAGE).as_posix()] += 1
    return dict(counts)


def lines_per_module() -> dict[str, int]:
    """Number of lines of each module."""
    return {name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in modules()}


def functions() -> Iterator[Function]:
    """Every function and method."""
    for path in modules():
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                lines = node.end_lineno - node.lineno + 1 - _docstring_lines(node)
                yield Function(name_of(path), node.name, lines, _parameters(node))


def _docstring_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    if ast.get_docstring(node) is None:
        return 0
    first = node.body[0]
    assert first.end_lineno is not None
    return first.end_lineno - first.lineno + 1


def _parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    named = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return len([parameter for parameter in named if parameter.arg not in ("self", "cls")])


def shared_names() -> dict[str, list[str]]:
    """Public top-level names that are defined in more than one module, with those modules."""
    defined: dict[str, set[str]] = defaultdict(set)
    for path in modules():
        for statement in tree_of(path).body:
            for name in _defines(statement):
                if not name.startswith("_"):
                    defined[name].add(name_of(path))
    return {name: sorted(places) for name, places in sorted(defined.items()) if len(places) > 1}


def _defines(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name
    targets = statement.targets if isinstance(statement, ast.Assign) else []
    targets = [statement.target] if isinstance(statement, ast.AnnAssign) else targets
    for target in targets:
        yield from (node.id for node in ast.walk(target) if isinstance(node, ast.Name))


def questions_of_kind() -> list[str]:
    """Calls of ``isinstance`` that ask which kind of feature something is, as ``module:line``."""
    return [
        f"{name_of(path)}:{node.lineno}"
        for path in modules()
        if name_of(path) not in CONVERSIONS
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "isinstance"
        and any(isinstance(part, ast.Name) and part.id in KINDS_OF_FEATURE for part in ast.walk(node.args[1]))
    ]


def main() -> None:
    """Print the counts, the largest first."""
    folders, sizes, shared = files_per_folder(), lines_per_module(), shared_names()
    lengths = sorted(functions(), key=lambda function: -function.lines)
    print(f"modules {len(sizes)}, lines {sum(sizes.values())}, functions {len(lengths)}")
    print(f"lines of a function: median {lengths[len(lengths) // 2].lines}, longest:")
    for function in lengths[:8]:
        print(f"  {function.lines:4} {function.module} {function.name}")
    print("most parameters:")
    for function in sorted(lengths, key=lambda function: -function.parameters)[:5]:
        print(f"  {function.parameters:4} {function.module} {function.name}")
    print("longest modules:")
    for module, lines in sorted(sizes.items(), key=lambda pair: -pair[1])[:8]:
        print(f"  {lines:4} {module}")
    print("files per folder:")
    for folder, count in sorted(folders.items(), key=lambda pair: (-pair[1], pair[0])):
        print(f"  {count:4} {folder}")
    print(f"public names in more than one module: {len(shared)}")
    for name, places in shared.items():
        print(f"       {name}: {', '.join(places)}")
    kinds = questions_of_kind()
    print(f"isinstance on kinds of feature: {len(kinds)} {' '.join(kinds)}")


if __name__ == "__main__":
    main()
