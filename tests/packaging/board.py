"""Node-RED with the board of `dashboards/node-red`, and a page's view of it: Socket.IO over HTTP, as a browser without
WebSockets would speak it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

from tests.support.ports import held_port

FLOWS = Path(__file__).parents[2] / "dashboards" / "node-red" / "flows.json"
PACKAGES = ("node-red@4.1", "@flowfuse/node-red-dashboard@1.31")
SETTINGS = """module.exports = {{
    uiHost: "127.0.0.1", uiPort: {port}, flowFile: "flows.json", httpAdminRoot: false,
    telemetry: {{ enabled: false, updateNotification: false }},
    logging: {{ console: {{ level: "info" }} }},
}};
"""


class NodeRed:
    """A headless Node-RED that runs the shipped flows with `variables`."""

    def __init__(self, folder: Path, packages: Path, variables: dict[str, str]) -> None:
        folder.mkdir()
        port = held_port()
        (folder / "settings.js").write_text(SETTINGS.format(port=port))
        (folder / "flows.json").write_text(FLOWS.read_text())
        (folder / "package.json").write_text(
            json.dumps({"private": True, "dependencies": {"@flowfuse/node-red-dashboard": "*"}})
        )
        (folder / "node_modules").symlink_to(packages / "node_modules")
        self.url = f"http://127.0.0.1:{port}/dashboard"
        self.log = folder / "log"
        red = packages / "node_modules" / "node-red" / "red.js"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                ["node", red, "--userDir", folder, "--settings", folder / "settings.js"],
                env=os.environ | variables,
                stdout=log,
                stderr=log,
            )

    def answers(self) -> bool:
        """Whether the board's page is there."""
        assert self.process.poll() is None, self.log.read_text()[-3000:]
        try:
            with urllib.request.urlopen(f"{self.url}/overview", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Page:
    """One open page of the board."""

    def __init__(self, url: str) -> None:
        self._address = f"{url}/socket.io/?EIO=4&transport=polling"
        session = json.loads(self._poll()[0][1:])["sid"]
        self._address += f"&sid={session}"
        self._send("40")
        self._events: list[list[Any]] = []
        self.widgets: dict[str, Any] = self._wait("ui-config")[2]["widgets"]

    def shown(self, label: str) -> Any:
        """What the text widget `label` shows now, None before its first message."""
        return self._load(lambda props: props.get("label") == label).get("payload")

    def rows(self, group: str) -> list[dict[str, Any]]:
        """The rows of the table in the group with this id."""
        return list(self._load(lambda props: props.get("group") == group).get("payload") or [])

    def _load(self, wanted: Any) -> dict[str, Any]:
        (widget,) = [name for name, known in self.widgets.items() if wanted(known["props"])]
        self._send("42" + json.dumps(["widget-load", widget]))
        return self._wait(f"widget-load:{widget}")[1] or {}

    def _wait(self, event: str) -> list[Any]:
        for _ in range(50):
            for found in self._events:
                if found[0] == event:
                    self._events.remove(found)
                    return [*found, None]
            for packet in self._poll():
                if packet == "2":
                    self._send("3")
                elif packet.startswith("42"):
                    self._events.append(json.loads(packet[2:]))
        raise AssertionError(f"the board never said {event}")

    def _poll(self) -> list[str]:
        with urllib.request.urlopen(self._address, timeout=30) as answer:
            return re.split("\x1e", answer.read().decode())

    def _send(self, packet: str) -> None:
        request = urllib.request.Request(
            self._address, packet.encode(), {"Content-Type": "text/plain;charset=UTF-8"}, method="POST"
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.read() == b"ok"
