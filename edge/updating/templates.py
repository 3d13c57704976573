"""Filling `env/*.env.tmpl` of a release from what this device knows: its facts, `device.env` and its secrets."""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping
from pathlib import Path

from edge.config import Paths
from edge.errors import Stop
from edge.identity.identity import Device
from edge.storage import disk
from edge.updating.secrets import Secrets


class Values(Mapping[str, str]):
    """What a template may name. Facts come first, since no file may pretend to be another device; then secrets, then
    `variables` of device.env. Looking one up raises `KeyError`, and `Stop` for a secret that is not fit to be one."""

    def __init__(self, facts: Mapping[str, str], secrets: Secrets, variables: Mapping[str, str]) -> None:
        self._known = {**variables, **facts}
        self._facts = facts
        self._secrets = secrets

    def __getitem__(self, name: str) -> str:
        secret = None if name in self._facts else self._secrets.get(name)
        return self._known[name] if secret is None else secret

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)


def facts(device: Device, role: str) -> dict[str, str]:
    """Return the facts of a device that templates may name."""
    return {
        "FLAGHOIST_DEVICE_ID": device.device_id,
        "FLAGHOIST_FLEET": device.fleet,
        "FLAGHOIST_HARDWARE": device.hardware,
        "FLAGHOIST_ROLE": role,
    }


def render(paths: Paths, release_id: str, folder: Path, values: Mapping[str, str]) -> None:
    """Fill the templates in a release's `folder`, outside of it, as files of mode 600.

    Raises `Stop` naming the value that is missing or cannot be used; the device may get it later. What was filled in
    before stays then.
    """
    filled = {}
    for template in sorted(folder.glob("env/*.env.tmpl")):
        try:
            text = string.Template(template.read_text(encoding="utf-8")).substitute(values)
        except KeyError as missing:
            raise Stop(
                f"env/{template.name} needs {missing.args[0]}, which neither device.env nor a secret sets"
            ) from None
        except ValueError as error:
            raise Stop(f"env/{template.name} is not a template: {error}", lasting=True) from None
        filled[template.name.removesuffix(".tmpl")] = text.encode()
    target = paths.rendered(release_id)
    disk.remove(target)
    (target / "env").mkdir(mode=0o700, parents=True)
    for name, data in filled.items():
        disk.write_durable(target / "env" / name, data)
