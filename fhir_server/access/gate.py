"""From a bearer token to clauses: the caller of a request, looked up once and kept while nothing has changed.

A worker asks every half second whether rights have changed anywhere (one number in the database); until then a token
it knows costs one dictionary look-up. So a revocation is seen by all workers within a second.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from fhir_server.access.consents import Consents
from fhir_server.access.membership import memberships
from fhir_server.access.shielding import hidden_keys
from fhir_server.store import Store
from profiles.outcome import FhirError
from search.clauses import ALWAYS, NEVER, Body, Chain, Clause, Updated, every, some, walk, without
from search.filters import kept
from search.matches import Test, is_alone, tested
from search.params import Parameter, Registry
from search.specials import criteria_of
from search.values import Around
from smart_auth import clients, formulas, principals
from smart_auth.access import Access, Principal, World, access, reachable, unmarked
from smart_auth.formulas import Formula, Pair
from smart_auth.realm import Realm, digest, generation, touch

POLL = 0.5  # seconds between two looks at what has changed
KEEP = 5.0  # seconds that compiled clauses are kept: consents and emergency sessions begin and end by the clock
MOST_CALLERS = 10_000
ERASED = "erased"  # the counter of consents that were erased
# Looks at a type that are no verb of a scope: `i` is including, that is reading or searching; `m` labels and consents.
LOOKS = {"i": reachable, "m": unmarked}
# What consents ask for of search parameters.
HOLDS: Mapping[str, Callable[[Parameter], bool]] = {
    "concept": lambda found: found.type == "token" and not found.value_types.isdisjoint(("CodeableConcept", "Coding")),
    "date": lambda found: found.type == "date",
}

LOGIN = {"WWW-Authenticate": 'Bearer realm="FHIR"'}
EXPIRED = {"WWW-Authenticate": 'Bearer error="invalid_token"'}


@dataclass(frozen=True, slots=True)
class Sight:
    """What of a type exists for a caller with a verb: the clause, and what would be found out of it each time.

    `all` and `none` spare the look at the clause (a comparison of clauses costs 2 microseconds, a read in all 17);
    `whole` says that the clause looks at more of a resource than its entries, `fits` is the clause as a function.
    """

    clause: Clause
    fits: Test
    all: bool
    none: bool
    whole: bool
    hidden: frozenset[str]


@dataclass(slots=True)
class Caller:
    """Who asks: the principal, and for each type and verb what of it exists for them."""

    gate: Gate
    principal: Principal
    expires: datetime
    built: float
    related: float = -KEEP
    own_actors: frozenset[str] | None = None
    granted: dict[tuple[str, str], Access] = field(default_factory=dict)
    sights: dict[tuple[str, str], Sight] = field(default_factory=dict)
    grants: dict[tuple[str, str], bool] = field(default_factory=dict)
    admitted: set[tuple[str, ...]] = field(default_factory=set)
    bounds: dict[tuple[str, str], tuple[str, ...] | None] = field(default_factory=dict)
    hidden: tuple[frozenset[str], frozenset[str]] | None = None
    free: bool | None = None  # everything of every type is there
    marked: str = ""
    named: str = ""
    told: Any = None  # the principal as the audit trail tells it

    @property
    def name(self) -> str:
        """Whom requests count for: the user of an app, or a backend service."""
        if not self.named:
            self.named = f"{self.principal.client}|{self.principal.user or ''}"
        return self.named

    def forget(self) -> None:
        """Work out again what may be reached."""
        self.granted, self.sights, self.grants, self.bounds = {}, {}, {}, {}
        self.admitted, self.free = set(), None

    @property
    def mark(self) -> str:
        """What binds a page link to this caller, with these rights."""
        if not self.marked:
            who = self.principal
            rights = digest(" ".join(sorted(scope.canonical for scope in who.scopes)))
            self.marked = f" {who.client} {who.user} {who.patient} {rights}"
        return self.marked


class Gate:
    """The callers of one realm and what they may reach."""

    def __init__(self, realm: Realm, store: Store, registry: Registry, base: str) -> None:
        self.realm = realm
        self.registry = registry
        self._store = store
        self._base = base
        self._callers: dict[str, Caller] = {}
        self._consents = Consents(store, base)
        self.origins: frozenset[str] = frozenset()
        self._generation = -1
        self._erased = -1
        self._polled = 0.0
        self._polling = asyncio.Lock()

    def known(self, headers: Mapping[str, str]) -> Caller | None:
        """The caller of a token that was met before, where nothing has to be asked: most requests wait for nobody."""
        header, now = headers.get("authorization", ""), time.monotonic()
        if header[:7].lower() != "bearer " or len(header) > 512 or now - self._polled >= POLL:
            return None
        held = self._callers.get(digest(header[7:].strip()))
        if held is None or now - held.built > KEEP or (self._consents.shared and held.principal.fhir_user):
            return None
        return held if held.expires > self.realm.now() else None

    async def caller(self, headers: Mapping[str, str]) -> Caller | None:
        """The caller of a request, None without an Authorization header; FhirError 401 for a token that is no good."""
        header = headers.get("authorization")
        if header is None:
            return None
        if header[:7].lower() != "bearer " or len(header) > 512:
            raise FhirError("login", "A bearer token is needed.", headers=LOGIN)
        return await self.of_token(header[7:].strip())

    async def of_token(self, token: str) -> Caller:
        """The caller of an access token."""
        await self.refresh()
        key = digest(token)
        held = self._callers.get(key)
        if held is not None and held.expires > self.realm.now():
            return await self.related(self._fresh(held))
        found = await principals.of_token(self.realm, token)
        if found is None:
            await self.realm.note("token-unknown", {"token": key[:12]})
            raise FhirError("login", "The access token is unknown, was revoked, or has expired.", headers=EXPIRED)
        if len(self._callers) >= MOST_CALLERS:
            self._callers.clear()
        held = self._callers[key] = Caller(self, found[0], found[1]["expires"].astimezone(UTC), time.monotonic())
        return await self.related(held)

    def of_principal(self, principal: Principal) -> Caller:
        """The caller for a principal that was made without a token: a user at our own pages."""
        return Caller(self, principal, datetime.max.replace(tzinfo=UTC), time.monotonic())

    async def at_pages(self, principal: Principal) -> Caller:
        """The same with rights and consents as they are now."""
        await self.refresh()
        return await self.related(self.of_principal(principal))

    async def related(self, held: Caller) -> Caller:
        """The caller with what they belong to, where a consent names a role, an organization, a team or a group."""
        user = held.principal.fhir_user
        if not (self._consents.shared and user) or time.monotonic() - held.related < KEEP:
            return held
        held.own_actors = held.principal.actors if held.own_actors is None else held.own_actors
        actors = held.own_actors | await memberships(user, self._store, self.registry, self._base)
        if actors != held.principal.actors:
            held.principal = replace(held.principal, actors=actors)
            held.forget()
        held.related = time.monotonic()
        return held

    def _fresh(self, held: Caller) -> Caller:
        if time.monotonic() - held.built > KEEP:
            held.forget()
            held.built = time.monotonic()
        return held

    # What has changed

    def redefine(self, registry: Registry) -> None:
        """Judge by other search parameters from now on: what callers may reach and what tells of hidden elements."""
        self.registry = registry
        self._callers.clear()

    def stale(self) -> None:
        """A Consent is being written here: look again before the next request."""
        self._polled = 0.0

    async def erased(self) -> None:
        """Consents were erased for good and left nothing that tells of it: every worker looks at all there are."""
        await touch(self.realm, ERASED)
        await touch(self.realm)
        self.stale()

    async def refresh(self) -> None:
        """Look whether rights have changed anywhere, at most twice a second."""
        if time.monotonic() - self._polled < POLL:
            return
        async with self._polling:
            if time.monotonic() - self._polled < POLL:
                return
            begun = time.monotonic()
            number, erased = await generation(self.realm), self._erased
            if number != self._generation:
                self.origins = await clients.all_origins(self.realm)
                erased = await generation(self.realm, ERASED)
            changed = await self._consents.refresh(self.registry, erased=erased != self._erased)
            self._erased = erased
            if number != self._generation or changed:
                self._generation = number
                self._callers.clear()
            self._polled = begun

    # What may be reached

    def world(self, principal: Principal) -> World:
        """What the access rules look at; a caller bound to one patient meets that patient's consents alone."""
        now = self.realm.now()
        live = self._consents.live(now)
        if principal.patient and {scope.context for scope in principal.scopes} == {"patient"}:
            own = f"Patient/{principal.patient}"
            live = (c for c in live if (c.get("patient") or {}).get("reference") == own)
        return World(self._codes, self._holding, tuple(live), self.realm.now)

    def _codes(self, kind: str) -> tuple[str, ...]:
        return tuple(parameter.code for parameter in self.registry.compartment("Patient", kind))

    def _holding(self, kind: str, what: str) -> tuple[str, ...]:
        return tuple(parameter.code for parameter in self.registry.of(kind) if HOLDS[what](parameter))

    def granted(self, caller: Caller, kind: str, verb: str) -> Access:
        """The caller's access to a type with a verb, or by a look."""
        held = caller.granted.get((kind, verb))
        if held is None:
            world, look = self.world(caller.principal), LOOKS.get(verb)
            made = look(caller.principal, kind, world) if look else access(caller.principal, kind, verb, world)
            held = caller.granted[kind, verb] = made
        return held

    def grants(self, caller: Caller, kind: str, verb: str) -> bool:
        """Whether the caller may use the verb on some resource of the type."""
        held = caller.grants.get((kind, verb))
        if held is None:
            held = caller.grants[kind, verb] = not self.granted(caller, kind, verb).none
        return held

    def is_free(self, caller: Caller, kind: str, verb: str) -> bool:
        """Whether role and scope alone grant the verb on every resource of the type."""
        world = World(self._codes, self._holding, (), self.realm.now)
        return access(caller.principal, kind, verb, world).formula == formulas.EVERYTHING

    def hidden(self, caller: Caller) -> frozenset[str]:
        """Every element of any type that the caller's policies hide."""
        return self._hidden(caller)[0]

    def hidden_keys(self, caller: Caller) -> frozenset[str]:
        """The keys of search entries that would tell of them."""
        return self._hidden(caller)[1]

    def _hidden(self, caller: Caller) -> tuple[frozenset[str], frozenset[str]]:
        if caller.hidden is None:
            rows = (row for policy in caller.principal.policies for row in policy.rows if row.hidden)
            kinds = {name.partition(".")[0] for row in rows for name in row.hidden}
            held = {kind: self.granted(caller, kind, "i").hidden for kind in kinds}
            keys = (hidden_keys(kind, names, self.registry) for kind, names in held.items())
            caller.hidden = frozenset().union(*held.values()), frozenset().union(*keys)
        return caller.hidden

    def clause(self, caller: Caller, kind: str, verb: str) -> Clause:
        """What of a type exists for the caller with a verb, as a clause."""
        return self.sight(caller, kind, verb).clause

    def sight(self, caller: Caller, kind: str, verb: str) -> Sight:
        """What of a type exists for the caller with a verb."""
        held = caller.sights.get((kind, verb))
        if held is None:
            granted = self.granted(caller, kind, verb)
            clause = self.compiled(granted.formula, kind)
            whole = any(isinstance(part, Body | Chain | Updated) for part in walk(clause))
            held = Sight(kept(clause), tested(clause), clause == ALWAYS, clause == NEVER, whole, granted.hidden)
            caller.sights[kind, verb] = held
        return held

    def compiled(self, formula: Formula, kind: str, positive: bool = True) -> Clause:
        """A formula as a clause on resources of the type.

        A leaf that cannot be read for the type lets nothing through, and under a negation it holds back everything.
        """
        match formula:
            case formulas.Where(pairs):
                return self._leaf(pairs, kind, positive)
            case formulas.All(parts):
                return every(self.compiled(part, kind, positive) for part in parts)
            case formulas.Any(parts):
                return some(self.compiled(part, kind, positive) for part in parts)
            case formulas.Not(part):
                return without(self.compiled(part, kind, not positive))

    def _leaf(self, pairs: tuple[Pair, ...], kind: str, positive: bool) -> Clause:
        criteria = criteria_of(Around(self.registry, self._base, None))
        with suppress(FhirError):
            made = every(criteria.clause(kind, name, value) for name, value in pairs)
            if is_alone(made):  # a version is judged by its own content
                return made
        return NEVER if positive else ALWAYS
