"""Where this process stands among the builds: what it notes of itself, and whether another is wanted by now."""

from __future__ import annotations

from edge.config import Paths
from edge.errors import EdgeError
from edge.selfupdate import choice, launcher


class Standing:
    """Made at the agent's start. Nothing here raises: an agent that cannot say so much still works."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._own = launcher.own()
        self._noted: set[str] = set()
        self._wanted = self._read()

    def came_up(self) -> None:
        """The main loop turns and has seen an update process end."""
        self._note("up")

    def reached(self) -> None:
        """The hub, or its broker, has let this device in."""
        self._note("reached")

    @property
    def superseded(self) -> bool:
        """Whether another build is wanted than at this agent's start."""
        return self._read() != self._wanted

    def _note(self, what: str) -> None:
        if self._own and what not in self._noted:
            self._noted.add(what)
            choice.note(self._paths, what, self._own)

    def _read(self) -> str:
        try:
            return choice.load(self._paths).wanted
        except (OSError, EdgeError):
            return ""
