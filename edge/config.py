"""Where things stand in the state directory, the device's own settings, and its local variables.

Settings come from `agent.json` in the state directory; a variable `FLAGHOIST_EDGE_<NAME>` overrides one.
Local variables (`device.env`) fill the env templates of releases and reach hooks, checks and services.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from edge.errors import NotReady

DEFAULT_STATE: Final = Path("/var/lib/flaghoist")
DEFAULT_HOOKS: Final = Path(__file__).resolve().parent.parent / "firmware_hooks"
ENV_PREFIX: Final = "FLAGHOIST_EDGE_"

Span = Annotated[float, Meta(gt=0, le=30 * 86_400)]
_VARIABLE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=([^\x00\n]*)\Z")


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything an operator of one device may set; times in seconds."""

    backoff_base_seconds: Span = 1.0
    backoff_cap_seconds: Span = 300.0
    keepalive_seconds: Annotated[int, Meta(ge=4, le=3600)] = 360
    heartbeat_seconds: Annotated[float, Meta(ge=0, le=7 * 86_400)] = 0.0  # 0: as the hub says
    resend_seconds: Span = 30.0
    retry_base_seconds: Span = 60.0
    retry_cap_seconds: Span = 3600.0
    respawn_seconds: Span = 1.0
    hook_seconds: Span = 300.0
    validate_seconds: Span = 30.0
    later_seconds: Span = 5.0
    secrets_dir: Annotated[str, Meta(max_length=1024)] = ""
    reboot_command: Annotated[str, Meta(max_length=1024, pattern=r"\S")] = "systemctl reboot"
    reboot_seconds: Span = 600.0
    download_seconds: Span = 3600.0
    stall_seconds: Span = 30.0
    floor_bytes_per_second: Annotated[int, Meta(ge=1)] = 1024
    check_seconds: Span = 300.0
    drift_seconds: Annotated[float, Meta(ge=0, le=30 * 86_400)] = 86_400.0  # 0: only when it is ordered
    settle_seconds: Span = 15.0
    max_activations: Annotated[int, Meta(ge=1, le=100)] = 3
    agent_trial_seconds: Span = 600.0
    safe_mode_after: Annotated[int, Meta(ge=1, le=1000)] = 3
    boot_loop_starts: Annotated[int, Meta(ge=0, le=1000)] = 8  # 0: never
    boot_loop_seconds: Span = 600.0
    log_level: Literal["off", "error", "warning", "info"] = "warning"
    log_lines_per_minute: Annotated[int, Meta(ge=1, le=600)] = 30
    transport: Literal["auto", "mqtt", "https"] = "auto"
    fallback_seconds: Span = 300.0
    mqtt_retry_seconds: Span = 900.0
    chaos: bool = False
    zone: Annotated[str, Meta(max_length=128)] = "UTC"
    mirror: Annotated[str, Meta(max_length=1024)] = ""


@dataclass(frozen=True, slots=True)
class Paths:
    """Names in the state directory."""

    root: Path
    hooks: Path = DEFAULT_HOOKS

    @property
    def state(self) -> Path:
        """The update's state."""
        return self.root / "state"

    @property
    def memory(self) -> Path:
        """What the agent believes and has done."""
        return self.root / "memory"

    @property
    def anchor(self) -> Path:
        """What is left of `memory` when both of its generations are lost."""
        return self.root / "anchor"

    @property
    def spool(self) -> Path:
        """Durable reports that the hub has not receipted."""
        return self.root / "spool" / "frames"

    @property
    def beats(self) -> Path:
        """Heartbeats that nobody could hear."""
        return self.root / "spool" / "beats"

    @property
    def identity(self) -> Path:
        """Link to the folder with key, certificate, CA and hub address."""
        return self.root / "identity"

    @property
    def releases(self) -> Path:
        """One folder per release, exactly as released."""
        return self.root / "releases"

    @property
    def current(self) -> Path:
        """Link to the release that runs."""
        return self.root / "current"

    @property
    def previous(self) -> Path:
        """Link to the release that ran before."""
        return self.root / "previous"

    @property
    def run(self) -> Path:
        """Files of hooks: pids, logs."""
        return self.root / "run"

    @property
    def downloads(self) -> Path:
        """Archives on their way in."""
        return self.root / "downloads"

    @property
    def wanted_roots(self) -> Path:
        """Roots of trust that are asked for and fetched."""
        return self.root / "roots"

    def release(self, release_id: str) -> Path:
        """Folder of one release."""
        return self.releases / release_id

    def rendered(self, release_id: str) -> Path:
        """Folder of the filled env templates of one release."""
        return self.root / "rendered" / release_id

    def meta(self, release_id: str) -> Path:
        """The signed facts of one release that stands on this device."""
        return self.root / "meta" / release_id

    def checksums(self, release_id: str) -> Path:
        """The checksums document of one release that stands on this device."""
        return self.root / "meta" / f"{release_id}.checksums"

    def make(self) -> None:
        """Create the folders that are missing. Raises `NotReady`."""
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            for name in ("spool", "releases", "rendered", "meta", "downloads", "run", "roots"):
                (self.root / name).mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise NotReady(
                f"cannot write in {self.root} ({error.strerror}); name a folder of your own with --state"
            ) from None


def load_settings(root: Path, environ: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings of the device at `root`. Raises `NotReady` naming the file or variable at fault."""
    path = root / "agent.json"
    try:
        chosen = msgspec.json.decode(path.read_bytes(), type=Settings)
    except FileNotFoundError:
        chosen = Settings()
    except (OSError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise NotReady(f"{path} cannot be used ({error}); mend it, or take it away") from None
    names = {field.name: field.type for field in msgspec.structs.fields(Settings)}
    for variable, text in environ.items():
        name = variable.removeprefix(ENV_PREFIX).lower()
        if not variable.startswith(ENV_PREFIX) or name not in names:
            continue
        try:
            value = msgspec.convert(text, names[name], strict=False)
        except msgspec.ValidationError as error:
            raise NotReady(f"{variable}={text} cannot be used ({error}); mend it, or unset it") from None
        chosen = msgspec.structs.replace(chosen, **{name: value})
    return chosen


def load_variables(root: Path) -> dict[str, str]:
    """Return the local variables in `device.env`: `NAME=value` lines; empty and `#` lines are skipped.

    Raises `NotReady` naming the line that is neither.
    """
    path = root / "device.env"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise NotReady(f"{path} cannot be read: {error}") from None
    variables = {}
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        match = _VARIABLE.match(text)
        if match is None:
            raise NotReady(f"line {number} of {path} is not NAME=value")
        variables[match[1]] = match[2]
    return variables
