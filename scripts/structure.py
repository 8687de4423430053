"""How a Python package is laid out: counted alike for any package, so that ours can stand beside others.

    python scripts/structure.py litellm_erp trainer/erp_trainer           # the figures
    python scripts/structure.py --check litellm_erp trainer/erp_trainer   # exit 1 on a circle, a back import, a full folder

An import is an edge between two modules of the packages named, wherever in the file it stands, unless only a type checker
sees it. A *circle* is a set of modules that import one another. The *chain* is the most modules that stand on one another.
A *back import* goes up: rooms (folders) are ordered by who imports whom most, and an import against that order is back.
"""

from __future__ import annotations

import argparse
import ast
import json
import statistics
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

MAX_MODULES = 12
MAX_CHAIN = 11
# Rooms whose modules are alike and meant to grow.
OPEN_ROOMS = ("commands",)

Graph = Mapping[str, frozenset[str]]


def modules_of(package: Path) -> dict[str, Path]:
    """Dotted name of every module of a package; a package's ``__init__`` goes by the package's own name."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = [package.name, *path.relative_to(package).with_suffix("").parts]
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(name: str, path: Path, modules: Mapping[str, Path]) -> frozenset[str]:
    """Modules of ``modules`` that one of them imports."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found: set[str] = set()
    for node in _runtime(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                found.add(whole if whole in modules else base)
    return frozenset(found & modules.keys() - {name})


def _runtime(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node but those under ``if TYPE_CHECKING``."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        yield child
        yield from _runtime(child)


def circles(graph: Graph) -> list[list[str]]:
    """Sets of modules that import one another. Source: Tarjan (1972)."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        number[name] = low[name] = len(number)
        stack.append(name)
        for other in sorted(graph[name]):
            if other not in number:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], number[other])
        if low[name] == number[name]:
            at = stack.index(name)
            if len(stack) - at > 1:
                found.append(sorted(stack[at:]))
            del stack[at:]

    for name in sorted(graph):
        if name not in number:
            visit(name)
    return found


def longest_chain(graph: Graph) -> list[str]:
    """The most modules that stand on one another, uppermost first; a circle counts once."""
    known: dict[str, list[str]] = {}

    def below(name: str, above: frozenset[str]) -> list[str]:
        if name not in known:
            chains = [below(other, above | {name}) for other in graph[name] if other not in above]
            known[name] = [name, *max(chains, key=len, default=[])]
        return known[name]

    return max((below(name, frozenset()) for name in sorted(graph)), key=len, default=[])


def room(name: str, modules: Mapping[str, Path]) -> str:
    """The folder of a module."""
    return name if modules[name].name == "__init__.py" else name.rpartition(".")[0]


def back_imports(graph: Graph, modules: Mapping[str, Path]) -> list[tuple[str, str]]:
    """Imports between two rooms that import each other, in the direction that fewer take.

    A package's own ``__init__`` gathers what its room offers, and a package's uppermost modules serve all its rooms: an
    import within a folder and its ancestors is none.
    """
    between: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for name, others in graph.items():
        for other in others:
            pair = (room(name, modules), room(other, modules))
            if pair[0] != pair[1] and not _kin(*pair):
                between[pair].append((name, other))
    found = []
    for (one, other), edges in sorted(between.items()):
        return_edges = between.get((other, one), [])
        if return_edges and (len(edges), one) < (len(return_edges), other):
            found += edges
    return found


def _kin(one: str, other: str) -> bool:
    return one.startswith(f"{other}.") or other.startswith(f"{one}.")


def room_circles(graph: Graph, modules: Mapping[str, Path]) -> list[list[str]]:
    """Sets of rooms that import one another, kin aside."""
    rooms: dict[str, set[str]] = defaultdict(set)
    for name, others in graph.items():
        here = room(name, modules)
        rooms[here] |= {room(other, modules) for other in others if not _kin(here, room(other, modules))} - {here}
    for others in list(rooms.values()):
        for other in others:
            rooms.setdefault(other, set())
    return circles({name: frozenset(others) for name, others in rooms.items()})
