"""How a Python package is laid out: counted alike for any package, so that ours can stand beside others.

    python scripts/structure.py litellm_erp trainer/erp_trainer            # the figures
    python scripts/structure.py --check litellm_erp trainer/erp_trainer    # exit 1 where they are not as they should be

An import is an edge between two modules of the packages named, wherever in a file it stands, also where only a type
checker sees it. A *circle* is a set of modules, or of rooms (folders), that import one another. The *chain* is the
longest row of modules that import one after the other. A *back import* is one between two rooms that import each other,
in the direction that fewer imports take.
"""

from __future__ import annotations

import argparse
import ast
import json
import statistics
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
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
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
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


def defined_twice(modules: Mapping[str, Path]) -> tuple[list[str], int]:
    """Public classes and functions at the top of a module that several modules define, and how many names there are."""
    seen: Counter[str] = Counter()
    for path in modules.values():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        seen.update(
            {
                node.name
                for node in tree.body
                if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and node.name[0] != "_"
            }
        )
    return sorted(name for name, times in seen.items() if times > 1), len(seen)


def function_lengths(modules: Mapping[str, Path]) -> list[int]:
    """Lines of every function and method, docstrings included."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [
        (node.end_lineno or node.lineno) - node.lineno + 1
        for path in modules.values()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, kinds)
    ]


def measure(packages: Sequence[Path]) -> dict[str, object]:
    """Every figure of one or several packages that belong together."""
    modules: dict[str, Path] = {}
    for package in packages:
        modules |= modules_of(package)
    graph = {name: imports_of(name, path, modules) for name, path in modules.items()}
    lines = [len(path.read_text(encoding="utf-8").splitlines()) for path in modules.values()]
    folders = Counter(path.parent for path in modules.values() if path.name != "__init__.py")
    twice, names = defined_twice(modules)
    return {
        "lines": sum(lines),
        "modules": len(modules),
        "rooms": len(folders),
        "most modules in a room": max(
            (count for folder, count in folders.items() if folder.name not in OPEN_ROOMS), default=0
        ),
        "median file": int(statistics.median(line for line in lines if line > 1)),
        "median function": int(statistics.median(function_lengths(modules))),
        "longest chain": longest_chain(graph),
        "circles": circles(graph),
        "circles of rooms": room_circles(graph, modules),
        "back imports": [f"{one} -> {other}" for one, other in back_imports(graph, modules)],
        "names defined twice": twice,
        "names": names,
    }


def complaints(found: Mapping[str, object]) -> list[str]:
    """What a package of ours may not have."""
    chain, most = found["longest chain"], found["most modules in a room"]
    assert isinstance(chain, list)
    assert isinstance(most, int)
    said = []
    for what in ("circles", "circles of rooms", "back imports"):
        said += [f"{what}: {entry}" for entry in found[what]]  # type: ignore[attr-defined]
    if len(chain) > MAX_CHAIN:
        said.append(f"longest chain: {len(chain)} modules, expected at most {MAX_CHAIN}: {' -> '.join(chain)}")
    if most > MAX_MODULES:
        said.append(f"most modules in a room: {most}, expected at most {MAX_MODULES}")
    return said


def main() -> None:
    parser = argparse.ArgumentParser(description="How a Python package is laid out.")
    parser.add_argument("packages", nargs="+", type=Path, help="folders of packages that belong together")
    parser.add_argument("--check", action="store_true", help="exit 1 on a circle, back import, long chain or full room")
    parser.add_argument("--verbose", action="store_true", help="name what is counted")
    options = parser.parse_args()
    found = measure(options.packages)
    for key, value in found.items():
        print(f"{key:24} {len(value) if isinstance(value, list) and not options.verbose else json.dumps(value)}")
    if options.check and (said := complaints(found)):
        sys.exit("\n".join(said))


if __name__ == "__main__":
    main()
