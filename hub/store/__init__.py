"""The store: one portable SQL subset behind two verbs, `read` and `write`.

The rest of the hub sees `Store`, `Tx` and rows; only this folder knows a driver.
"""

from hub.store.base import Row, Store, StoreBusy, StoreFull, Tx
from hub.store.sqlite import SqliteStore

__all__ = ["Row", "SqliteStore", "Store", "StoreBusy", "StoreFull", "Tx"]
