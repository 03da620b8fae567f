"""The commands `user`, `client`, `token` and `role`: the authorization server from the command line."""

from __future__ import annotations

import asyncio
import getpass
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from fhir_server import logs
from fhir_server.commands.options import Data, Mongo, beside, settings
from fhir_server.config import Config, auth_url
from profiles.outcome import FhirError
from smart_auth import clients, editing, keys, policies, principals, registration, tokens, users
from smart_auth.realm import Realm

T = TypeVar("T")
Base = Annotated[str | None, typer.Option(help="Address of the server, where tokens and links are for it.")]


def choose(
    tenant: Annotated[str, typer.Option(envvar="FHIR_TENANT", help="The tenant it is about.")] = "default",
) -> None:
    os.environ["FHIR_TENANT"] = tenant


def group(about: str) -> typer.Typer:
    """A group of commands about one tenant."""
    return typer.Typer(no_args_is_help=True, help=about, callback=choose)


user = group("People who log in.")
client = group("Apps and backend services.")
token = group("Access tokens and signing keys.")
role = group("Roles: access policies as data.")
GROUPS = {"user": user, "client": client, "token": token, "role": role}


@dataclass(frozen=True, slots=True)
class Place:
    """Which database and which address a command is about."""

    mongo: str | None
    data: Path | None
    base_url: str | None = None
    tenant: str | None = None

    def config(self) -> Config:
        """The settings; the embedded database of a server that is running is used with it."""
        return beside(
            settings(mongo=self.mongo, data=self.data, base_url=self.base_url, tenant=self.tenant, auth="smart")
        )


@asynccontextmanager
async def opened(place: Place) -> AsyncIterator[tuple[Realm, Any]]:
    """The realm of the database, and its audit trail, while the command runs, beside a running server too."""
    from dataclasses import replace

    from fhir_server.access.auditing import Trail
    from fhir_server.auth.wiring import open_realm
    from fhir_server.keyring import keys_of
    from fhir_server.opening import open_context
    from fhir_server.store import Store
    from fhir_server.tenants import DEFAULT

    config = place.config()
    logs.configure(config.log_level)  # to standard error: what a command prints may go into a shell variable
    async with AsyncExitStack() as stack:
        context = await open_context(config, stack)
        if config.tenant != DEFAULT:
            config, context = await of_tenant(config, context.store)
        assert isinstance(context.store, Store)
        trail = Trail(context, *keys_of(config))
        await trail.journal.prepare()
        realm = await open_realm(config, context.store, replace(context, trail=trail))
        yield realm if config.base_url else await as_served(realm), trail


async def as_served(realm: Realm) -> Realm:
    """The realm under the address that the server had when it last started."""
    from dataclasses import replace

    held = await realm.records.get("state", "base")
    return replace(realm, issuer=held["url"], auth=auth_url(held["url"])) if held else realm


async def of_tenant(config: Config, store: Any) -> tuple[Config, Any]:
    """The configuration and the context of a tenant, over the connections of the default one."""
    from fhir_server.opening import context_of
    from fhir_server.store.tenants import open_beside, tenant_names
    from fhir_server.tenants import config_of

    if config.tenant not in await tenant_names(store):
        raise FhirError("not-found", f"There is no tenant {config.tenant}.")
    own = config_of(config, config.tenant)
    return own, await context_of(own, await open_beside(store, own.database))


def run(place: Place, work: Callable[[Realm], Awaitable[T]]) -> T:
    """Run one piece of work on the realm."""

    async def whole() -> T:
        async with opened(place) as (realm, _):
            return await work(realm)

    return asyncio.run(whole())


def show(value: Any) -> None:
    """Print a record as JSON, without what is secret."""
    typer.echo(json.dumps(value, indent=2, default=str, ensure_ascii=False))


@user.command("add")
def add_user(
    name: str,
    role: Annotated[list[str], typer.Option(help="A role; may be repeated.")],
    fhir_user: Annotated[str, typer.Option(help="Who it is in FHIR, such as Practitioner/1.")] = "",
    full_name: str = "",
    patient: Annotated[list[str] | None, typer.Option(help="A patient whose record is the user's own.")] = None,
    external: Annotated[str, typer.Option(help="PROVIDER:SUB of an external login; no password is made.")] = "",
    password_stdin: Annotated[bool, typer.Option("--password-stdin", help="Read the password.")] = False,
    mongo: Mongo = None,
    data: Data = None,
) -> None:
    """Add a user; without --password-stdin a password is made and shown once."""

    async def work(realm: Realm) -> str:
        password = sys.stdin.readline().rstrip("\n") if password_stdin else "" if external else realm.secret(12)
        fields = {"roles": role, "fhir_user": fhir_user or None, "name": full_name or name, "patients": patient or []}
        fields |= {"external": external} if external else {}
        await known_roles(realm, role)
        await users.create(realm, name, password, fields)
        return "" if password_stdin else password

    made = run(Place(mongo, data), work)
    typer.echo(f"User {name} was added." + (f" Password: {made}" if made else ""))


async def known_roles(realm: Realm, names: list[str]) -> None:
    """Refuse a role that does not exist: it would grant nothing, silently."""
    for name in names:
        if not await principals.named(realm, [name]):
            known = ", ".join(policies.default_policies())
            raise FhirError("not-found", f"There is no role {name}; roles are {known}.")


@user.command("list")
def list_users(mongo: Mongo = None, data: Data = None) -> None:
    """Users with their roles."""
    for each in run(Place(mongo, data), lambda realm: realm.records.find("users", {})):
        off = " (disabled)" if each.get("disabled") else ""
        typer.echo(f"{each['key']}\t{', '.join(each['roles'])}\t{each.get('fhir_user') or '-'}{off}")


@user.command("change")
def change_user(
    name: str,
    role: Annotated[list[str] | None, typer.Option(help="The roles from now on.")] = None,
    disabled: Annotated[bool | None, typer.Option("--disable/--enable", help="Lock the user out, or in.")] = None,
    mongo: Mongo = None,
    data: Data = None,
) -> None:
    """Change roles or lock a user out; every worker knows within a second."""

    async def work(realm: Realm) -> None:
        await known_roles(realm, role or [])
        fields = {"roles": role, "disabled": disabled}
        await users.update(realm, name, {key: value for key, value in fields.items() if value is not None})

    run(Place(mongo, data), work)
    typer.echo(f"User {name} was changed.")


@user.command("reset")
def reset_user(name: str, base_url: Base = None, mongo: Mongo = None, data: Data = None) -> None:
    """A link with which the user sets a new password, once and within the hour."""

    async def work(realm: Realm) -> str:
        if await users.find(realm, name) is None:
            raise FhirError("not-found", "There is no such user.")
        return f"{realm.auth}/reset?token={await users.reset_token(realm, name)}"

    typer.echo(run(Place(mongo, data, base_url), work))


@client.command("add")
def add_client(
    client_id: str,
    name: str = "",
    kind: Annotated[str, typer.Option(help="public, symmetric or asymmetric.")] = "public",
    scope: str = registration.SELF_SERVICE_SCOPE,
    redirect: Annotated[list[str] | None, typer.Option(help="An exact redirect URI; may be repeated.")] = None,
    launch: Annotated[list[str] | None, typer.Option(help="The address that an EHR launch opens.")] = None,
    jwks_uri: str = "",
    jwks: Annotated[Path | None, typer.Option(help="A file with the public keys.")] = None,
    backend: Annotated[bool, typer.Option("--backend", help="A backend service (client_credentials).")] = False,
    role: Annotated[list[str] | None, typer.Option(help="The policy of a backend service; System by default.")] = None,
    right: Annotated[list[str] | None, typer.Option(help="A further right, such as introspect.")] = None,
    trusted: Annotated[bool, typer.Option("--trusted", help="An app of the house: users are not asked.")] = False,
    mongo: Mongo = None,
    data: Data = None,
) -> None:
    """Register a client; the secret of a symmetric one is shown once."""
    fields = {
        "kind": kind,
        "name": name or client_id,
        "scope": scope,
        "redirect_uris": redirect or [],
        "launch_uris": launch or [],
        "grants": ["client_credentials"] if backend else ["authorization_code", "refresh_token"],
        "jwks_uri": jwks_uri or None,
        "jwks": json.loads(jwks.read_bytes()) if jwks else None,
        "policies": role or ["System"],
        "rights": right or [],
        "trusted": trusted,
    }
    _, secret = run(Place(mongo, data), lambda realm: clients.save(realm, client_id, fields))
    typer.echo(f"Client {client_id} was registered." + (f" Secret: {secret}" if secret else ""))


@client.command("list")
def list_clients(mongo: Mongo = None, data: Data = None) -> None:
    """Clients with their kind and scopes."""
    for each in run(Place(mongo, data), lambda realm: realm.records.find("clients", {})):
        typer.echo(f"{each['key']}\t{each['kind']}\t{each['scope']}")


@client.command("remove")
def remove_client(client_id: str, mongo: Mongo = None, data: Data = None) -> None:
    """Remove a client with all its tokens."""
    if not run(Place(mongo, data), lambda realm: clients.remove(realm, client_id)):
        raise FhirError("not-found", "There is no such client.")
    typer.echo(f"Client {client_id} was removed.")


@client.command("invite")
def invite_client(days: int = 7, mongo: Mongo = None, data: Data = None) -> None:
    """An initial access token, with which one app may register itself (FHIR_REGISTRATION=token)."""
    typer.echo(run(Place(mongo, data), lambda realm: registration.invite(realm, days)))


@token.command("issue")
def issue_token(
    client_id: str,
    scope: str,
    name: Annotated[str, typer.Option("--user", help="The user it acts for; a backend service has none.")] = "",
    patient: Annotated[str, typer.Option(help="The patient in context.")] = "",
    bare: Annotated[bool, typer.Option("--bare", help="Print the token alone, for a shell variable.")] = False,
    base_url: Base = None,
    mongo: Mongo = None,
    data: Data = None,
) -> None:
    """An access token for trying things out; it lives as long as any other."""
    context = {"patient": patient} if patient else {}

    async def work(realm: Realm) -> dict[str, Any]:
        return await tokens.made(realm, client_id, name, scope, context)

    made = run(Place(mongo, data, base_url), work)
    typer.echo(made["access_token"]) if bare else show(made)


@token.command("rotate")
def rotate_keys(mongo: Mongo = None, data: Data = None) -> None:
    """Sign with a new key from now on; what the old one signed stays valid until it expires."""
    typer.echo(f"Signing with {run(Place(mongo, data), keys.rotate)} from now on.")


@token.command("kill")
def kill_key(kid: str, mongo: Mongo = None, data: Data = None) -> None:
    """Remove a signing key in an emergency: all tokens of its time are dead within a second."""
    count = run(Place(mongo, data), lambda realm: keys.remove(realm, kid))
    if count is None:
        raise FhirError("not-found", "There is no such key.")
    typer.echo(f"{count} tokens were revoked.")


@role.command("list")
def list_roles(mongo: Mongo = None, data: Data = None) -> None:
    """Roles: those of this database, and the ones that every database starts with."""

    for name, each in run(Place(mongo, data), editing.roles).items():
        typer.echo(f"{name}\t{each.get('description', '')}")


@role.command("show")
def show_role(name: str, mongo: Mongo = None, data: Data = None) -> None:
    """A role as JSON, to be edited and set."""

    found = run(Place(mongo, data), editing.roles).get(name)
    if found is None:
        raise FhirError("not-found", "There is no such role.")
    show(found)


@role.command("set")
def set_role(path: Path, mongo: Mongo = None, data: Data = None) -> None:
    """Store a role from a JSON file; it holds on every worker within a second."""
    found = json.loads(path.read_bytes())

    async def work(realm: Realm) -> None:
        role = editing.check(realm, found)
        await editing.change(realm, role["name"], role, {"user": getpass.getuser()})

    run(Place(mongo, data), work)
    typer.echo(f"Role {found['name']} was stored.")
