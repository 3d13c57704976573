"""What was signed is signed again at the start: by a new deployment key that devices can trust, or with new sources."""

from __future__ import annotations

import structlog

from hub import config, trustroots
from hub.caller import rule
from hub.deployment.service import Deployment
from hub.registry.service import Registry
from hub.signer import Signer
from hub.store import Store
from topics.envelope import key_id

_log = structlog.get_logger("hub.rekey")


def sign_again_if_due(store: Store, signer: Signer, deployment: Deployment, registry: Registry) -> None:
    """Sign every manifest and desired state anew if another key signed them and the newest root names this one.

    Not before the root does: devices would refuse the new signatures and keep what they had.
    """
    with store.read() as tx:
        trusted = not trustroots.problem(tx, signer)
    keyid = key_id(signer.public_key)
    if not trusted or config.meta(store, "signed_by", keyid) == keyid:
        return
    manifests, desired = deployment.sign_again(rule("key_change")), registry.sign_again()
    config.remember(store, "signed_by", keyid)
    _log.info("signed again by a new deployment key", manifests=manifests, desired=desired)


def sign_again_if_moved(store: Store, signer: Signer, deployment: Deployment, sources: list[str]) -> None:
    """Sign every manifest anew if bundles are fetched elsewhere than at the last start.

    Not while another key signed what is retained: `sign_again_if_due` sees to that when its time has come.
    """
    told = " ".join(sources)
    keyid = key_id(signer.public_key)
    if config.meta(store, "signed_by", keyid) != keyid or config.meta(store, "sources", told) == told:
        return
    manifests = deployment.sign_again(rule("sources"))
    config.remember(store, "sources", told)
    _log.info("signed again with other sources", manifests=manifests)
