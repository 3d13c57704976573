"""The folder of one built release.

OUT/<release id>/bundle.tar.gz    what devices download
                 checksums.json   every file of it
                 release.msgpack  the payload that the release keys sign
                 release.dsse     the same in an envelope, once somebody has signed
                 policy.json      the role's rollout.json, when it has one
"""

from __future__ import annotations

from typing import Final

BUNDLE: Final = "bundle.tar.gz"
CHECKSUMS: Final = "checksums.json"
PAYLOAD: Final = "release.msgpack"
ENVELOPE: Final = "release.dsse"
POLICY: Final = "policy.json"
