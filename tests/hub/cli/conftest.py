"""What the tests of the operator's command share: git repositories, keys, and a hub that answers from a script."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from nacl.signing import SigningKey
from structlog.testing import capture_logs

from hub.cli.main import run
from hub.identity import keys
from tests.hub.world import World

GIT_ENV = {
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.com",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.com",
    "GIT_AUTHOR_DATE": "2026-03-01T10:00:00Z",
    "GIT_COMMITTER_DATE": "2026-03-01T10:00:00Z",
}
CREATED_AT = 1_772_359_200_000

INFO = {
    "format": 1,
    "role": "kiosk",
    "version": "1.0.0",
    "hook": "exec",
    "exec": {"command": ["python3", "files/app.py"]},
}
DIGEST = "sha256:" + "ab" * 32
COMPOSE = f"services:\n  web:\n    image: example.com/web:1@{DIGEST}\n"

GOOD: dict[str, str | None] = {
    "roles/kiosk/bundle.json": json.dumps(INFO),
    "roles/kiosk/files/app.py": "print('hello')\n",
    "roles/kiosk/validate/10-health!": "#!/bin/sh\nexit 0\n",
    "roles/kiosk/env/app.env.tmpl": "PORT=${PORT}\n",
    "roles/kiosk/rollout.json": '{"failure": {"max_ratio": 0.2}}',
    "roles/kiosk/README.md": "Not for devices.\n",
}
"""A role that builds. A path that ends in `!` is executable; None takes a file out."""


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of whoever runs the tests reaches the command."""
    for name in list(os.environ):
        if name.startswith(("FLAGHOIST_", "GIT_", "SSL_CERT_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@dataclass(frozen=True)
class Ran:
    """What a command line did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Flaghoist = Callable[..., Ran]


@pytest.fixture
def flaghoist(capsys: pytest.CaptureFixture[str]) -> Flaghoist:
    """Run a command line in this process."""

    def flaghoist_(*args: object) -> Ran:
        capsys.readouterr()
        code = run([str(arg) for arg in args])
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return flaghoist_


class Repo:
    """A git repository in a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True)
        self.git("init", "-q", "-b", "main")

    def git(self, *args: str, stdin: str | None = None) -> str:
        done = subprocess.run(
            ["git", "-C", str(self.path), *args],
            env=os.environ | GIT_ENV,
            input=stdin,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    def commit(self, files: dict[str, str | None], message: str = "Open the kiosk") -> str:
        """Write `files` over what stands there, commit, and return the commit's id."""
        for name, content in files.items():
            path = self.path / name.rstrip("!")
            if content is None:
                path.unlink()
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
            path.chmod(0o755 if name.endswith("!") else 0o644)
        self.git("add", "-A")
        return self.record(message)

    def record(self, message: str = "Change") -> str:
        """Commit the index as it is."""
        self.git("commit", "-q", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    """A repository whose role `kiosk` builds."""
    made = Repo(tmp_path / "fleet")
    made.commit(GOOD)
    return made


@dataclass(frozen=True)
class Signers:
    """Key files by name, and the root that names root, one and two (release) and hub (deployment)."""

    folder: Path

    def key(self, name: str) -> Path:
        return self.folder / f"{name}.key"

    def pub(self, name: str) -> Path:
        return self.folder / f"{name}.pub"


@pytest.fixture
def signers(tmp_path: Path) -> Signers:
    folder = tmp_path / "keys"
    for number, name in enumerate(("root", "one", "two", "hub", "stranger")):
        keys.save(folder, name, SigningKey(bytes([number]) * 32))
    return Signers(folder)


@pytest.fixture
def built(flaghoist: Flaghoist, repo: Repo, tmp_path: Path) -> Path:
    """The folder of a release that was built and not signed."""
    ran = flaghoist(
        "release", "build", "--role", "kiosk", "--repo", repo.path, "--sequence", 7, "--fleet", "acme",
        "--out", tmp_path / "out", "--json",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    return Path(ran.json["folder"])


@dataclass
class Request:
    """What the hub was asked."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Answer = tuple[int, Any]


@dataclass
class FakeHub:
    """A real HTTP server that answers `METHOD /path?query` from a table; the last answer of a list stays.

    The ETag of an answer counts the requests so far, unless `tagged` is off.
    """

    url: str = ""
    tagged: bool = True
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)

    def on(self, what: str, *answers: Answer) -> None:
        self.answers[what] = list(answers)

    def asked(self) -> list[str]:
        return [f"{request.method} {request.path}" for request in self.requests]

    def answer(self, request: Request) -> Answer:
        self.requests.append(request)
        known = self.answers.get(f"{request.method} {request.path}")
        if known is None:
            return 404, {
                "title": "Not found",
                "status": 404,
                "detail": f"There is nothing at {request.path}.",
            }
        return known.pop(0) if len(known) > 1 else known[0]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub that the environment names, with the token `letmein`."""
    fake = FakeHub()

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, content = fake.answer(Request(self.command, self.path, dict(self.headers), body))
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header(
                "Content-Type", "application/json" if status < 400 else "application/problem+json"
            )
            self.send_header("Content-Length", str(len(data)))
            if fake.tagged:
                self.send_header("ETag", f'"{len(fake.requests)}"')
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PATCH = do_DELETE = handle_any  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    fake.url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("FLAGHOIST_URL", fake.url)
    monkeypatch.setenv("FLAGHOIST_TOKEN", "letmein")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield fake
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def real(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A real hub behind a real port, without its broker, that the environment names, with its admin's token."""
    config = uvicorn.Config(world.app, host="127.0.0.1", port=0, log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    socket = config.bind_socket()
    monkeypatch.setenv("FLAGHOIST_URL", f"http://127.0.0.1:{socket.getsockname()[1]}")
    monkeypatch.setenv("FLAGHOIST_TOKEN", world.token)
    # The socket listens already, so nothing has to wait for the thread.
    socket.listen()
    thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]})
    thread.start()
    # The hub logs in this very process, and what the command prints is what is tested.
    with capture_logs():
        yield world
    server.should_exit = True
    thread.join()
    socket.close()
