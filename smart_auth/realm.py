"""A realm: one tenant's authorization server as data and the functions it is given (storage, clock, randomness, HTTP).

Nothing in `smart_auth` reads a clock, a random source or the network on its own; all of it comes from here.
"""

from __future__ import annotations

import base64
import hashlib
from asyncio import Lock
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

from smart_auth.formulas import Pair

Record = dict[str, Any]


class Records(Protocol):
    """Keyed records by kind (`codes`, `tokens` ...), shared by all workers; every change is atomic and durable."""

    async def get(self, kind: str, key: str) -> Record | None:
        """The record, or None; an expired one is not there."""

    async def add(self, kind: str, key: str, record: Record, expires: datetime | None = None) -> bool:
        """Store a new record; False when the key is taken."""

    async def put(self, kind: str, key: str, record: Record, expires: datetime | None = None) -> None:
        """Store the record in the place of any other."""

    async def take(self, kind: str, key: str) -> Record | None:
        """Find and delete in one step: of many callers exactly one gets the record."""

    async def change(self, kind: str, key: str, fields: Record, when: Record | None = None) -> Record | None:
        """Set fields if `when` still holds; the record before the change, or None when it did not."""

    async def change_all(self, kind: str, where: Record, fields: Record) -> int:
        """Set fields on every record that matches; how many there were."""

    async def find(self, kind: str, where: Record, limit: int = 1000) -> list[Record]:
        """The records whose fields have these values, each with its key as `key`."""

    async def drop(self, kind: str, where: Record) -> int:
        """Delete the records whose fields have these values; how many there were."""

    async def count(self, kind: str, key: str, by: int, expires: datetime) -> int:
        """Add to a counter that vanishes at `expires` and return its value."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """An answer of another server: status, lower-case headers, and the body up to the limit asked for."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long things live (docs/security.md)."""

    code: timedelta = timedelta(seconds=60)
    access: timedelta = timedelta(minutes=30)
    backend: timedelta = timedelta(seconds=300)
    refresh: timedelta = timedelta(days=90)
    online: timedelta = timedelta(hours=12)
    session: timedelta = timedelta(hours=12)
    idle: timedelta = timedelta(minutes=60)
    flow: timedelta = timedelta(minutes=10)
    launch: timedelta = timedelta(minutes=5)
    id_token: timedelta = timedelta(minutes=10)
    glass: timedelta = timedelta(minutes=30)
    reset: timedelta = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class KeySource:
    """A client's JWK Set as fetched: the keys, when, and until when they may be used without asking again."""

    keys: tuple[Record, ...]
    at: datetime
    until: datetime


Hashing = Callable[[Callable[[], Any]], Awaitable[Any]]
Fetch = Callable[[str], Awaitable[Fetched]]
# A form sent by POST: address, fields, headers.
Post = Callable[[str, Mapping[str, str], Mapping[str, str]], Awaitable[Fetched]]
Note = Callable[[str, Record], Awaitable[None]]


async def unreachable(url: str, form: Mapping[str, str], headers: Mapping[str, str]) -> Fetched:
    """A realm that sends nothing to anybody."""
    raise OSError("nothing is sent")


async def unnoted(kind: str, details: Record) -> None:
    """A realm without an audit trail, as tests of single rules have it."""


@dataclass(frozen=True, slots=True)
class Provider:
    """An OpenID provider: where it is, what we are called there, and which claim says who somebody is in FHIR.

    `roles` maps values of the claim `role_claim` to roles here; `create` makes a user at the first login. `tenants` are
    those whose people may log in with it: a provider of one hospital says nothing about the people of another.
    """

    key: str
    name: str
    issuer: str
    client_id: str
    client_secret: str = ""
    scope: str = "openid profile fhirUser"
    fhir_user_claim: str = "fhirUser"
    role_claim: str = ""
    roles: Mapping[str, str] = field(default_factory=dict)
    create: bool = False
    tenants: tuple[str, ...] = ("default",)


@dataclass(frozen=True, slots=True)
class Realm:
    """One tenant's authorization server: its addresses, its rules, and what it depends on.

    `issuer` is the FHIR base URL, `auth` the base of the endpoints. `hashing` runs a slow function in a bounded pool,
    `note` writes an audit record. `registration` is `open`, `token` or `off`; `types` are the resource types of scopes.
    """

    tenant: str
    issuer: str
    auth: str
    records: Records
    now: Callable[[], datetime]
    random: Callable[[int], bytes]
    fetch: Fetch
    hashing: Hashing
    types: Collection[str]
    answerable: Callable[[str, tuple[Pair, ...]], bool]
    note: Note = unnoted
    registration: str = "off"
    lifetimes: Lifetimes = field(default_factory=Lifetimes)
    name: str = "FHIR server"
    post: Post = unreachable
    providers: tuple[Provider, ...] = ()
    jwks: dict[str, KeySource] = field(default_factory=dict)
    turns: dict[str, Lock] = field(default_factory=lambda: defaultdict(Lock))

    @property
    def addresses(self) -> frozenset[str]:
        """What a client may call the FHIR server as the audience of its token."""
        return frozenset((self.issuer, f"{self.issuer}/"))

    def secret(self, size: int = 32) -> str:
        """A fresh random text of `size` bytes in base64url without padding.

        None begins with `-`, for names made so are given to commands, which would take it for an option.
        """
        text = base64.urlsafe_b64encode(self.random(size)).rstrip(b"=").decode()
        return self.secret(size) if text.startswith("-") else text

    def after(self, span: timedelta) -> datetime:
        """The instant `span` from now."""
        return self.now() + span


def digest(secret: str) -> str:
    """What is stored of a random secret: its SHA-256, for secrets of 128 bits or more need no slow hash."""
    return hashlib.sha256(secret.encode()).hexdigest()


async def touch(realm: Realm, what: str = "generation") -> None:
    """Tell every worker that rights have changed: cached callers are looked up again within a second."""
    await realm.records.count("state", what, 1, realm.after(timedelta(days=36500)))


async def generation(realm: Realm, what: str = "generation") -> int:
    """The number that `touch` raises."""
    record = await realm.records.get("state", what)
    return int(record["n"]) if record else 0
