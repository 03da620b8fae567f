"""The command `tenant`: hospitals that share a server and nothing else."""

from __future__ import annotations

import asyncio
import getpass
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated, Any, TypeVar

import typer

from fhir_server.commands.options import Data, Mongo, private
from fhir_server.commands.users import Place, opened
from fhir_server.config import Config
from fhir_server.store import Store
from profiles.outcome import FhirError

T = TypeVar("T")
# What is exported besides resources, and the fields of each that are nobody's business.
RECORDS = ("users", "clients", "policies")
SECRETS = frozenset({"password", "totp", "totp_next", "totp_step", "backup", "secret", "passkeys", "glass"})

tenant = typer.Typer(no_args_is_help=True, help="Tenants: hospitals that share a server and nothing else.")


@dataclass(frozen=True, slots=True)
class Desk:
    """The default tenant's store and audit trail, from which tenants are managed."""

    config: Config
    store: Store
    trail: Any

    async def note(self, what: str, name: str) -> None:
        """Tell it in the default tenant's audit trail, with the name of the operator."""
        await self.trail.note(f"tenant-{what}", {"user": getpass.getuser(), "tenant": name})

    async def known(self, name: str) -> None:
        """Refuse a tenant that does not exist."""
        from fhir_server.store.tenants import tenant_names

        if name not in await tenant_names(self.store):
            raise FhirError("not-found", f"There is no tenant {name}.")


@asynccontextmanager
async def desk(place: Place) -> AsyncIterator[Desk]:
    async with opened(place) as (realm, trail):
        yield Desk(place.config().model_copy(update={"base_url": realm.issuer}), trail.store, trail)


def run(mongo: str | None, data: Path | None, work: Callable[[Desk], Awaitable[T]]) -> T:
    """Run one piece of work at the desk."""

    async def whole() -> T:
        async with desk(Place(mongo, data, tenant="default")) as found:
            return await work(found)

    return asyncio.run(whole())


@tenant.command("create")
def create(name: str, mongo: Mongo = None, data: Data = None) -> None:
    """Create a tenant with a database and an administrator, whose password is shown once."""
    typer.echo(run(mongo, data, lambda found: created(found, name)))


async def created(found: Desk, name: str) -> str:
    """A tenant with its administrator; what to tell about it."""
    from fhir_server.auth.wiring import open_beside_realm
    from fhir_server.store.tenants import add_tenant
    from fhir_server.tenants import DEFAULT, NAME, config_of
    from smart_auth import users

    if not NAME.fullmatch(name) or name == DEFAULT:
        raise FhirError("value", "A tenant's name is 1 to 31 of a-z, 0-9 and -, and not `default`.")
    own = config_of(found.config, name)
    realm = await open_beside_realm(own, found.store)
    if not await add_tenant(found.store, name):
        raise FhirError("duplicate", f"There is a tenant {name} already.")
    made = await users.first_admin(realm)
    await found.note("created", name)
    told = f" First user {made[0]}, password {made[1]} (shown once)." if made else ""
    return f"Tenant {name} was created: {own.base}.{told}"


@tenant.command("list")
def list_tenants(mongo: Mongo = None, data: Data = None) -> None:
    """Tenants with their addresses."""
    from fhir_server.store.tenants import tenant_names
    from fhir_server.tenants import config_of

    async def work(found: Desk) -> list[str]:
        return [f"{name}\t{config_of(found.config, name).base}" for name in await tenant_names(found.store)]

    for line in run(mongo, data, work):
        typer.echo(line)


@tenant.command("export")
def export(name: str, folder: Path, mongo: Mongo = None, data: Data = None) -> None:
    """Write a tenant's resources as NDJSON, one file a type, and its users, clients and roles without secrets."""
    typer.echo(f"{run(mongo, data, lambda found: exported(found, name, folder))} resources were written to {folder}.")


async def exported(found: Desk, name: str, folder: Path) -> int:
    """How many resources were written; the folder is readable by its owner alone."""
    from fhir_server.store.auth import AuthRecords
    from fhir_server.store.tenants import every_resource, open_beside
    from fhir_server.tenants import config_of

    await found.known(name)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    if os.listdir(folder):
        raise FhirError("duplicate", f"There is something in {folder} already; name another folder.")
    store = await open_beside(found.store, config_of(found.config, name).database)
    await found.note("exported", name)
    count = 0
    files: dict[str, IO[bytes]] = {}
    with ExitStack() as stack:
        async for stored in every_resource(store):
            if stored.type not in files:
                files[stored.type] = stack.enter_context(private(folder / f"{stored.type}.ndjson"))
            files[stored.type].write((stored.body or b"") + b"\n")
            count += 1
    for kind in RECORDS:
        rows = [_plain(row) for row in await AuthRecords(store.driver).find(kind, {}, limit=1_000_000)]
        with private(folder / f"{kind}.json") as file:
            file.write(json.dumps(rows, indent=1, default=str, ensure_ascii=False).encode())
    return count


def _plain(record: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in SECRETS}


@tenant.command("delete")
def delete(
    name: str,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    mongo: Mongo = None,
    data: Data = None,
) -> None:
    """Delete a tenant with all its data, for good; every worker closes it within a second."""
    if not yes:
        typer.confirm(f"Delete tenant {name} with all its data, for good?", abort=True)
    run(mongo, data, lambda found: deleted(found, name))
    typer.echo(f"Tenant {name} was deleted.")


async def deleted(found: Desk, name: str) -> None:
    """The row goes first, so that nobody opens the database again while it is dropped."""
    from fhir_server.store.tenants import remove_tenant
    from fhir_server.tenants import config_of

    await found.known(name)
    await remove_tenant(found.store, name, config_of(found.config, name).database)
    await found.note("deleted", name)
