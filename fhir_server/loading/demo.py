"""The demo hospital, for a database with nothing in it."""

from __future__ import annotations

import structlog

from fhir_server.context import Context
from fhir_server.loading.direct import Direct
from fhir_server.loading.hospital import load_hospital
from fhir_server.store import Store

log = structlog.get_logger()


async def load_demo(context: Context) -> None:
    """Load the hospital when the database is empty; a second start finds it there."""
    store = context.store
    if not isinstance(store, Store) or await store.reads.find_documents({}, projection={"_id": 1}, limit=1):
        return
    report = await load_hospital(Direct(context))
    log.info("demo", loaded=report.loaded, failed=report.failed)
