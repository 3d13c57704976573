"""The broker's access list, rendered from the channel table.

Mosquitto's `acl_file` never checks SUBSCRIBE, only delivery: a filter that may not be read is granted
and stays silent. So the list is what counts for delivery, and the hub watches subscriptions beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from topics.channels import CHANNELS, UPLINKS, Principal


def render(
    fleet: str,
    services: Mapping[Principal, Iterable[str]],
    sites: Iterable[str] = (),
    muted: Iterable[str] = (),
) -> str:
    """Return the text of a Mosquitto `acl_file`.

    `services` names the certificate CNs that hold each service principal, `sites` the known site names
    (a site's CN is `site.<name>`). Devices are matched by `%u`, so the text does not grow with the fleet. `muted` are
    ids of devices that may report nothing; they go on hearing what they may.
    """
    lines = ["# Rendered from the channel table; edits are overwritten at the next start."]
    for channel in CHANNELS:
        topic = _pattern(channel.template, fleet, device="%u")
        if Principal.DEVICE in channel.writers:
            lines.append(f"pattern write {topic}")
        if Principal.DEVICE in channel.readers:
            lines.append(f"pattern read {topic}")
    for principal, users in services.items():
        for user in users:
            lines += ["", f"user {user}", *_rights(fleet, principal)]
    for site in sites:
        lines += ["", f"user site.{site}", *_rights(fleet, Principal.SITE, site=site)]
    for device_id in muted:
        topics = [_pattern(channel.template, fleet, device=device_id) for channel in UPLINKS]
        lines += ["", f"user {device_id}", *[f"topic deny {topic}" for topic in topics]]
    return "\n".join(lines) + "\n"


def _rights(fleet: str, principal: Principal, site: str = "+") -> list[str]:
    lines = []
    for channel in CHANNELS:
        topic = _pattern(channel.template, fleet, device="+", site=site)
        writes, reads = principal in channel.writers, principal in channel.readers
        if writes or reads:
            access = "readwrite" if writes and reads else "write" if writes else "read"
            lines.append(f"topic {access} {topic}")
    return lines


def _pattern(template: str, fleet: str, *, device: str, site: str = "+") -> str:
    return template.format(fleet=fleet, id=device, site=site, role="+", segment="+", release="+")
