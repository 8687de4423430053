"""How a Python package is laid out: counted alike for any package, so that ours can stand beside others.

    python scripts/structure.py litellm_erp trainer/erp_trainer            # the figures
    python scripts/structure.py --check litellm_erp trainer/erp_trainer    # exit 1 where they are not as they should be

An import is an edge between two modules of the packages named, wherever in a file it stands, also where only a type
checker sees it; *at load* only those count that run when a module is imported. Modules that are imported by a name in a
string are not seen. A *circle* is a set of modules, or of rooms (folders), that import one another. The *chain* is the
longest row of modules that import one after the other; a circle counts once in it. A *back import* is one between two
rooms that import each other, in the direction that fewer imports take.
"""

from __future__ import annotations

import argparse
import ast
import json
import statistics
import sys
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

MAX_MODULES = 12
MAX_CHAIN = 12
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


def imports_of(name: str, path: Path, modules: Mapping[str, Path], *, at_load: bool = False) -> frozenset[str]:
    """Modules of ``modules`` that one of them imports; ``at_load`` when it is imported itself, else ever."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found: set[str] = set()
    for node in _run_at_load(tree.body) if at_load else ast.walk(tree):
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


def _run_at_load(body: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """Statements that run when a module is imported: none in functions, none for type checkers only."""
    for node in body:
        yield node
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from _run_at_load(node.orelse)
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from _run_at_load(part for part in ast.iter_child_nodes(node) if not isinstance(part, ast.expr))


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
    """The most modules that stand on one another, uppermost first; a circle counts once, by its first module."""
    first = {name: circle[0] for circle in circles(graph) for name in circle}
    below: dict[str, set[str]] = defaultdict(set)
    for name, others in graph.items():
        below[first.get(name, name)] |= {first.get(other, other) for other in others}
    known: dict[str, list[str]] = {}

    def chain(name: str) -> list[str]:
        if name not in known:
            chains = [chain(other) for other in sorted(below[name] - {name})]
            known[name] = [name, *max(chains, key=len, default=[])]
        return known[name]

    return max((chain(name) for name in sorted(below)), key=len, default=[])


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
    """Sets of rooms that import one another, kin aside; and those through a module that stands beside rooms.

    A package's uppermost module may serve its rooms or join them, but a room that stands on it may not be joined by it:
    for that each module of a folder with folders in it counts as a room of its own.
    """
    folders = {path.parent for path in modules.values()}
    split = {folder for folder in folders if any(folder in other.parents for other in folders)}
    rooms: dict[str, set[str]] = {room(name, modules): set() for name in graph}
    units: dict[str, set[str]] = {}
    for name, others in graph.items():
        here = room(name, modules)
        rooms[here] |= {room(other, modules) for other in others if not _kin(here, room(other, modules))} - {here}
        unit = _unit(name, modules, split)
        units.setdefault(unit, set()).update({_unit(other, modules, split) for other in others} - {unit})
    found = [circles({name: frozenset(others) for name, others in each.items()}) for each in (rooms, units)]
    # A circle of modules alone is told as one already.
    return found[0] + [circle for circle in found[1] if circle not in found[0] and circle not in circles(graph)]


def _unit(name: str, modules: Mapping[str, Path], split: Collection[Path]) -> str:
    return name if modules[name].parent in split else room(name, modules)


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
        modules |= modules_of(package.resolve())
    graph = {name: imports_of(name, path, modules) for name, path in modules.items()}
    at_load = {name: imports_of(name, path, modules, at_load=True) for name, path in modules.items()}
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
        "longest chain at load": longest_chain(at_load),
        "circles": circles(graph),
        "circles at load": circles(at_load),
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
    if missing := [str(package) for package in options.packages if not any(package.rglob("*.py"))]:
        parser.error(f"no Python files in {', '.join(missing)}; expected folders of packages")
    found = measure(options.packages)
    for key, value in found.items():
        print(f"{key:24} {len(value) if isinstance(value, list) and not options.verbose else json.dumps(value)}")
    if options.check and (said := complaints(found)):
        sys.exit("\n".join(said))


if __name__ == "__main__":
    main()
