"""IO. YAML that people write, read within bounds: bytes, nodes, nesting, aliases; no tag constructs anything.

A message never quotes the file: a line of a config may hold a key.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import ConstructorError
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from litellm_erp.errors import ErpError
from litellm_erp.strict_files import read_whole

MAX_BYTES = 4 * 2**20
# 10,000 deployments have about as many; a node takes about a kilobyte while it is read.
MAX_NODES = 100_000
MAX_DEPTH = 64
# Whole numbers in base 60 (1:1:1…) are read in quadratic time, and longer ones are no number anybody means.
_MAX_NUMBER_CHARS = 400
_NUMBERS = frozenset({"tag:yaml.org,2002:int", "tag:yaml.org,2002:float"})


@dataclass(frozen=True, slots=True)
class Document:
    """The content of a YAML file.

    Attributes
    ----------
    repeated : keys that stand twice in one map, with their lines; YAML readers keep the last of them
    """

    value: Any
    repeated: tuple[str, ...] = ()


def read_yaml(path: Path, error: type[ErpError]) -> Any:
    """The value of :func:`read_document`."""
    return read_document(path, error).value


def read_document(path: Path, error: type[ErpError]) -> Document:
    """Read a YAML file of at most :data:`MAX_BYTES`.

    Raises
    ------
    the error : not a readable regular file, too large, not UTF-8, not YAML, nested too deep, or larger than
        :data:`MAX_NODES` once its aliases are written out; names the file and, where there is one, the line
    """
    try:
        content = read_whole(path, MAX_BYTES)
    except OSError as e:
        raise error(f"{path}: cannot be read ({e.strerror}); expected a YAML file") from e
    try:
        return _parse(content.decode("utf-8"))
    except UnicodeDecodeError as e:
        raise error(f"{path}: not UTF-8 ({e.reason}); save the file as UTF-8") from None
    except yaml.YAMLError as e:
        raise error(f"{path}: not YAML ({_said(e)})") from None
    except RecursionError:
        raise error(f"{path}: not YAML (nested more than {MAX_DEPTH} deep)") from None


def _parse(text: str) -> Document:
    loader = _BoundedLoader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return Document(None)
        repeated: list[str] = []
        _measure(root, {}, repeated)
        return Document(loader.construct_document(root), tuple(repeated))
    finally:
        loader.dispose()


class _BoundedLoader(yaml.SafeLoader):
    """PyYAML's safe loader, which by itself takes any number of nodes and raises what it likes for odd tags."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._nodes = 0
        self._depth = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        self._nodes += 1
        self._depth += 1
        if self._nodes > MAX_NODES or self._depth > MAX_DEPTH:
            raise ConstructorError(None, None, _too_large(self._depth), self.get_mark())
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def compose_scalar_node(self, anchor: Any) -> ScalarNode:
        node = super().compose_scalar_node(anchor)
        if node.tag in _NUMBERS and len(node.value) > _MAX_NUMBER_CHARS:
            raise ConstructorError(None, None, f"a number of {len(node.value):,} characters", node.start_mark)
        if any("\ud800" <= character <= "\udfff" for character in node.value):
            raise ConstructorError(None, None, "half of a surrogate pair, which is no text", node.start_mark)
        return node

    def construct_object(self, node: Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except yaml.YAMLError:
            raise
        except Exception as e:
            # PyYAML lets whatever a conversion raises through: `!!bool x` a KeyError, `2001-99-99` a ValueError.
            raise ConstructorError(None, None, "a value that is not of its type", node.start_mark) from e


def _measure(node: Node, known: dict[int, tuple[int, int] | None], repeated: list[str]) -> tuple[int, int]:
    """Nodes and depth of a node with its aliases written out; notes keys that stand twice."""
    key = id(node)
    if key in known:
        found = known[key]
        if found is None:
            raise ConstructorError(None, None, "an alias that contains itself", node.start_mark)
        return found
    known[key] = None
    size, depth = 1, 0
    if isinstance(node, MappingNode):
        repeated += _repeated(node)
    for child in _children(node):
        inner, below = _measure(child, known, repeated)
        size, depth = size + inner, max(depth, below)
        if size > MAX_NODES or depth >= MAX_DEPTH:
            raise ConstructorError(None, None, _too_large(depth + 1), node.start_mark)
    known[key] = (size, depth + 1)
    return size, depth + 1


def _children(node: Node) -> Iterable[Node]:
    if isinstance(node, MappingNode):
        return (child for pair in node.value for child in pair)
    return node.value if isinstance(node, SequenceNode) else ()


def _repeated(node: MappingNode) -> Iterator[str]:
    seen: set[str] = set()
    for key, _ in node.value:
        if isinstance(key, ScalarNode) and key.value != "<<":
            if key.value in seen:
                yield f"{key.value} (line {key.start_mark.line + 1})"
            seen.add(key.value)


def _too_large(depth: int) -> str:
    if depth > MAX_DEPTH:
        return f"nested more than {MAX_DEPTH} deep"
    return f"more than {MAX_NODES:,} values with its aliases written out"


def _said(error: yaml.YAMLError) -> str:
    """What is wrong and where, without the lines that PyYAML quotes."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "context", None)
    if problem is None:
        reason = getattr(error, "reason", "cannot be read")
        return f"{reason}, at position {getattr(error, 'position', '?')}"
    return f"{problem}, line {mark.line + 1}, column {mark.column + 1}" if mark is not None else str(problem)
