"""A YAML document as plain values, with the line of every one; bounded whatever the document does. Pure.

Scalars are read as YAML 1.2's core schema has them, which is what compose's own parser does: `yes` is text and
`22:22` is no number. Aliases are followed at most `NODES` times in all and never into themselves.
"""

from __future__ import annotations

import re
from typing import Any, Final

import yaml

NODES: Final = 20_000
DEPTH: Final = 64
Path = tuple[str | int, ...]

_SCALARS: Final = (
    (re.compile(r"^(?:null|Null|NULL|~|)\Z"), lambda _: None),
    (re.compile(r"^(?:true|True|TRUE)\Z"), lambda _: True),
    (re.compile(r"^(?:false|False|FALSE)\Z"), lambda _: False),
    (re.compile(r"^[-+]?[0-9]{1,18}\Z"), int),
    (re.compile(r"^0o[0-7]{1,20}\Z"), lambda text: int(text, 8)),
    (re.compile(r"^0x[0-9a-fA-F]{1,15}\Z"), lambda text: int(text, 16)),
    (re.compile(r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]{1,3})?\Z"), float),
)


class YamlError(Exception):
    """What is not one YAML document; `line` counts from 1, None where there is none."""

    def __init__(self, detail: str, line: int | None) -> None:
        super().__init__(detail)
        self.detail, self.line = detail, line


class Document:
    """A parsed document: its `value`, and the line where each part stands. Raises `YamlError`."""

    def __init__(self, text: str) -> None:
        self._lines: dict[Path, int] = {}
        self._left = NODES
        self._open: set[int] = set()
        try:
            node = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            raise YamlError(error.problem or error.context or "", mark.line + 1 if mark else None) from None
        except yaml.YAMLError as error:
            raise YamlError(str(error).splitlines()[0], None) from None
        except (RecursionError, ValueError):
            raise YamlError("it is nested too deeply or holds what is no text", None) from None
        self.value: Any = None if node is None else self._value(node, ())

    def line(self, path: Path) -> int | None:
        """Return the line of what is at `path`, or of the nearest part around it."""
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path)

    def _value(self, node: yaml.Node, path: Path) -> Any:
        line = node.start_mark.line + 1
        self._lines.setdefault(path, line)
        self._left -= 1
        if self._left < 0 or len(path) > DEPTH:
            raise YamlError("it has too many parts, or is nested too deeply", line)
        if isinstance(node, yaml.ScalarNode):
            return _scalar(node)
        if id(node) in self._open:
            raise YamlError("an alias stands inside what it names", line)
        self._open.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            value: Any = [self._value(child, (*path, number)) for number, child in enumerate(node.value)]
        else:
            value = self._mapping(node, path)
        self._open.discard(id(node))
        return value

    def _mapping(self, node: yaml.Node, path: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise YamlError("a key is not plain text", line)
            key = str(key_node.value)
            if key == "<<" and key_node.style is None:
                for one in value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]:
                    content = self._value(one, (*path, "<<"))
                    if not isinstance(content, dict):
                        raise YamlError("what << takes in is no map", line)
                    merged = content | merged
                continue
            if key in found:
                raise YamlError(f"the key {key!r} stands twice", line)
            self._lines[*path, key] = line
            found[key] = self._value(value_node, (*path, key))
        return merged | found


def _scalar(node: yaml.ScalarNode) -> Any:
    text = str(node.value)
    if node.style is not None or node.tag == "!!str":
        return text
    return next((make(text) for pattern, make in _SCALARS if pattern.match(text)), text)
