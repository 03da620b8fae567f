"""Storage: the only room that knows MongoDB."""

from fhir_server.store.connect import open_store
from fhir_server.store.disk import watch_disk
from fhir_server.store.history import Page
from fhir_server.store.mongod import Embedded
from fhir_server.store.reads import Reads, snapshot_of, snapshot_text
from fhir_server.store.records import New, Stored, instant, stored_of
from fhir_server.store.store import Store
from fhir_server.store.together import Search
from fhir_server.store.transaction import Transaction

__all__ = [
    "Embedded",
    "New",
    "Page",
    "Reads",
    "Search",
    "Store",
    "Stored",
    "Transaction",
    "instant",
    "open_store",
    "snapshot_of",
    "snapshot_text",
    "stored_of",
    "watch_disk",
]
