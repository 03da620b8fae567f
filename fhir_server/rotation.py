"""From one master key to the next: everything that the old one sealed, in every tenant's database."""

from __future__ import annotations

from collections.abc import AsyncIterator

from fhir_server.access.auditing import Trail
from fhir_server.config import Config
from fhir_server.context import Context
from fhir_server.keyring import forget, keys_of, mark
from fhir_server.opening import context_of
from fhir_server.secrecy import Sealed
from fhir_server.store import Store
from fhir_server.store.auth import AuthRecords
from fhir_server.store.tenants import open_beside, tenant_names
from fhir_server.tenants import config_of
from profiles.outcome import FhirError


async def rotate(config: Config, context: Context, by: str) -> int:
    """How many secrets were sealed anew; safe to repeat after it was cut off.

    The old key is taken out of the key file last, so that a second run can finish what the first one began.
    """
    keys = keys_of(config)
    if len(keys) < 2:
        raise FhirError("conflict", "There is no old key: `fhir-server key new` begins a rotation.")
    await check_server(keys, context)
    count = 0
    async for own, place in databases(config, context):
        count += await renew(own, place, by)
    forget(config)
    return count


async def check_server(keys: tuple[bytes, ...], context: Context) -> None:
    """FhirError while the server runs with another key; other tenants are opened when somebody asks for them."""
    assert isinstance(context.store, Store)
    served = (await AuthRecords(context.store.driver).get("state", "base") or {}).get("master")
    if served and served != mark(keys[0]):
        raise FhirError(
            "conflict", "The server was started with another key: restart it, so that it knows the new one."
        )


async def databases(config: Config, context: Context) -> AsyncIterator[tuple[Config, Context]]:
    """The default tenant and all others."""
    store = context.store
    assert isinstance(store, Store)
    yield config, context
    for name in await tenant_names(store):
        own = config_of(config, name)
        yield own, await context_of(own, await open_beside(store, own.database))


async def renew(config: Config, context: Context, by: str) -> int:
    """Seal the secrets of one database anew; prove its audit trail, and let no old key add to it."""
    assert isinstance(context.store, Store)
    keys = keys_of(config)
    sealed = Sealed(AuthRecords(context.store.driver, context.now), *keys)
    trail = Trail(context, *keys)
    await trail.journal.prepare()
    count = await sealed.renew()
    await trail.rekey()
    await trail.note("key-rotated", {"user": by, "reason": f"{count} secrets"})
    return count
