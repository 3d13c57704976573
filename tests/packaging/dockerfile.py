"""A Dockerfile as a list of instructions: what the tests read and, as far as no engine is needed, carry out."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Stage:
    """From one FROM to the next; `instructions` are (name, rest) in order."""

    base: str
    name: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def every(self, name: str) -> list[str]:
        """What follows each instruction `name`."""
        return [rest for found, rest in self.instructions if found == name]

    def last(self, name: str) -> str:
        """What follows the last instruction `name`, the one that counts."""
        return self.every(name)[-1]


def parse(path: Path) -> list[Stage]:
    """Return the stages of a Dockerfile; ARGs before the first are filled in."""
    text = re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.M)
    stages: list[Stage] = []
    arguments: dict[str, str] = {}
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        name, _, rest = line.strip().partition(" ")
        if name == "FROM":
            base, _, alias = rest.partition(" AS ")
            stages.append(Stage(re.sub(r"\$\{(\w+)\}", lambda match: arguments[match[1]], base), alias))
        elif name == "ARG" and not stages:
            key, _, value = rest.partition("=")
            arguments[key] = value
        elif name:
            stages[-1].instructions.append((name, rest.strip()))
    return stages


def exec_form(rest: str) -> list[str]:
    """Return the argv of an instruction in exec form; raises `ValueError` for the shell form."""
    argv = json.loads(rest)
    if not isinstance(argv, list) or not all(isinstance(word, str) for word in argv):
        raise ValueError(f"not in exec form: {rest}")
    return argv
