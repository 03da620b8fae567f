"""The realm of a running server: everything `smart_auth` is given, and the pages' view of patients and encounters."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from starlette.routing import Route

from fhir_server.access.auditing import Trail
from fhir_server.access.gate import Gate
from fhir_server.auth.demo import open_demo
from fhir_server.auth.outside import bounded, fetcher, poster
from fhir_server.auth.portal import Choice, Portal
from fhir_server.auth.routes import auth_routes
from fhir_server.config import Config
from fhir_server.context import Context, Request
from fhir_server.http.limiting import Limits
from fhir_server.ids import local_name
from fhir_server.keyring import keys_of, mark
from fhir_server.opening import context_of
from fhir_server.routes import handle
from fhir_server.secrecy import Sealed
from fhir_server.store import Store
from fhir_server.store.auth import AuthRecords
from fhir_server.store.tenants import open_beside
from fhir_server.tenants import DEFAULT, NAME
from profiles.json import decode
from profiles.model import RESOURCE_TYPES
from profiles.outcome import FhirError
from search.filters import is_seen
from search.params import Registry
from search.specials import criteria_of
from search.values import Around
from smart_auth import keys, users
from smart_auth.access import Principal
from smart_auth.formulas import Pair
from smart_auth.realm import Provider, Realm, Record, unnoted

DATE = re.compile(r"\d{4}(-\d\d(-\d\d)?)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Auth:
    """What a server with `--auth smart` has more: a context with an audit trail, gate, routes, limits."""

    context: Context
    gate: Gate
    routes: list[Route]
    limits: Limits


async def open_auth(config: Config, context: Context) -> Auth:
    """The authorization server over the context's database; the first start makes an administrator."""
    store = context.store
    if not isinstance(store, Store):
        raise FhirError("exception", "The authorization server needs a store.")
    trail = Trail(context, *keys_of(config))
    await trail.journal.prepare()
    context = replace(context, trail=trail)
    realm = await open_realm(config, store, context)
    gate = Gate(realm, store, context.registry, config.base)
    await open_accounts(realm, store, demo=config.demo, key=mark(keys_of(config)[0]))
    rates = {"data": config.rate_data, "files": config.rate_files, "general": config.rate_general}
    routes = auth_routes(Portal(realm, directory_of(gate, context)), *mounts(config))
    return Auth(context, gate, routes, Limits(realm.records, context.now, rates))


async def open_accounts(realm: Realm, store: Store, *, demo: bool, key: str = "") -> None:
    """The accounts of a first start: an administrator, and with `demo` people and an app of the demo hospital."""
    await realm.records.put("state", "base", {"url": realm.issuer, "master": key})
    await keys.current(realm)  # one key, before several workers would each make theirs
    made = await users.first_admin(realm)
    if made is not None:
        tell_password(realm, *made)
    told = await open_demo(realm, store) if demo else None
    if told is not None:
        print(told, flush=True)


def tell_password(realm: Realm, name: str, password: str) -> None:
    """The one time that the first administrator's password is shown; it goes to the terminal and into no log."""
    account = f"{realm.auth}/account"
    print(f"First start: user {name}, password {password} (shown once; change it at {account})", flush=True)


def mounts(config: Config) -> tuple[str, str]:
    """The paths below which a tenant's API and its authorization server answer."""
    root = "" if config.tenant == DEFAULT else f"/t/{config.tenant}"
    return f"{root}/fhir", f"{root}/auth"


async def open_beside_realm(config: Config, store: Store) -> Realm:
    """The realm of another tenant, over the connections of a store, with an audit trail of its own."""
    context = await context_of(config, await open_beside(store, config.database))
    trail = Trail(context, *keys_of(config))
    await trail.journal.prepare()
    return await open_realm(config, trail.store, replace(context, trail=trail))


async def open_realm(config: Config, store: Store, context: Context) -> Realm:
    """The realm of the configuration."""
    records = AuthRecords(store.driver, context.now)
    await records.prepare()
    return Realm(
        tenant=config.tenant,
        issuer=config.base,
        auth=config.auth_url,
        records=Sealed(records, *keys_of(config)),
        now=context.now,
        random=os.urandom,
        fetch=fetcher(loopback=is_loopback(config.base)),
        hashing=bounded(),
        types=RESOURCE_TYPES,
        answerable=answerable_by(context.registry),
        note=context.trail.note if context.trail else unnoted,
        registration=config.registration,
        post=poster(loopback=is_loopback(config.base)),
        providers=providers_of(config),
    )


def providers_of(config: Config) -> tuple[Provider, ...]:
    """The external OpenID providers of the tenant; a name that is no setting of one is a fault."""
    try:
        rows = [Provider(**row | {"tenants": tenants_of(row)}) for row in config.providers]
    except TypeError as error:
        raise FhirError("value", f"FHIR_PROVIDERS is not understood: {error}.") from error
    own = tuple(row for row in rows if config.tenant in row.tenants or "*" in row.tenants)
    twice = next((row.key for row in own if sum(row.key == each.key for each in own) > 1), None)
    if twice is not None:
        raise FhirError("value", f"FHIR_PROVIDERS names {twice!r} more than once for the tenant {config.tenant}.")
    return own


def tenants_of(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The tenants that a provider is for: the default one where none is named, every one for `*`."""
    named = row.get("tenants", [DEFAULT])
    names = list(named) if isinstance(named, list | tuple) else []
    if not names or not all(isinstance(name, str) and (name == "*" or NAME.fullmatch(name)) for name in names):
        raise FhirError("value", f'FHIR_PROVIDERS: tenants of {row.get("key")!r} is a list of names, or ["*"].')
    return tuple(names)


def is_loopback(url: str) -> bool:
    """Whether a server at this address talks to its own machine only."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def answerable_by(registry: Registry) -> Any:
    """Whether the clauses of a scope can be decided exactly on one resource, without looking at others."""

    def answerable(kind: str, pairs: tuple[Pair, ...]) -> bool:
        criteria = criteria_of(Around(registry, "", None))
        try:
            return all(is_seen(criteria.clause(None if kind == "*" else kind, name, value)) for name, value in pairs)
        except FhirError:
            return False

    return answerable


def directory_of(gate: Gate, context: Context) -> Any:
    """Patients and encounters as a user may see them: a search like any other, through the gate."""

    async def directory(principal: Principal, what: str, text: str, chosen: Record) -> list[Choice]:
        caller = await gate.at_pages(principal)
        rows: dict[str, Choice] = {}
        for query in queries(what, text, chosen):
            kind = "Patient" if what == "patient" else "Encounter"
            request = Request("GET", (kind,), [*query, ("_count", "20")], principal=caller)
            answer = await handle(request, context)
            found: Any = decode(answer.body) if answer.status == 200 else {}
            resources = (entry["resource"] for entry in found.get("entry", ()) if "search" in entry)
            rows |= {
                each["id"]: CHOICES[kind](each, context.config.base)
                for each in resources
                if each["resourceType"] == kind
            }
        return list(rows.values())[:20]

    return directory


def queries(what: str, text: str, chosen: Record) -> list[list[Pair]]:
    """The searches for what somebody typed: an id, a birth date, a name, an identifier."""
    if text.startswith("id:"):
        return [[("_id", text[3:]), *_of_patient(what, chosen)]]
    if what == "encounter":
        return [[("_sort", "-date"), *_of_patient(what, chosen)]]
    words = text.replace(",", " ").split()
    if not words:
        return [[("_sort", "family")]]
    if len(words) == 1 and DATE.fullmatch(words[0]):
        return [[("birthdate", words[0])]]
    return [[("name", word.replace("$", "")) for word in words], [("identifier", "".join(words))]]


def _of_patient(what: str, chosen: Record) -> list[Pair]:
    return [("patient", f"Patient/{chosen['patient']}")] if what == "encounter" and "patient" in chosen else []


def _patient(resource: Record, base: str) -> Choice:
    name: Any = next(iter(resource.get("name", ())), {})
    full = name.get("text") or " ".join([*name.get("given", ()), name.get("family", "")]).strip()
    about = [resource.get("birthDate", ""), resource.get("gender", "")]
    return Choice(resource["id"], full or "Without a name", ", ".join(filter(None, about)), resource["id"])


def _encounter(resource: Record, base: str) -> Choice:
    kinds = (concept.get("text") or _display(concept) for concept in resource.get("type", ()))
    title = next(filter(None, kinds), "Visit")
    whose, _, patient = (local_name(resource.get("subject", {}).get("reference", ""), base) or "").partition("/")
    start = resource.get("period", {}).get("start", "")[:10]
    return Choice(resource["id"], title, start, patient if whose == "Patient" else "")


def _display(concept: Record) -> str:
    return next((coding["display"] for coding in concept.get("coding", ()) if coding.get("display")), "")


CHOICES = {"Patient": _patient, "Encounter": _encounter}
