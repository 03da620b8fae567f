"""Checking on the way in: base definitions always, profiles where they are claimed, required or asked for.

Validation is pure and does not wait; what it needs from the database is looked up between two tries.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar
from weakref import WeakKeyDictionary

from fhir_server import access
from fhir_server.context import Context, Request, Resource
from fhir_server.ids import local_name
from fhir_server.store import Store, Stored
from fhir_server.store.definitions import definitions_changed, definitions_mark
from fhir_server.store.find.page import find
from fhir_server.store.terms import Found, Key, Terms, terms_of
from fhir_server.store.terms import Missing as Untold
from fhir_server.writing.coded_values import code_faults, membership, subsumption
from profiles.json import decode
from profiles.model import RESOURCE_TYPES, definition_urls
from profiles.outcome import FhirError, Issue
from profiles.validate import Library, Options, Shelf, check, validate
from profiles.validate.definitions import Definition
from profiles.validate.safety import unsafe_narratives
from search.defining import faults as unusable
from search.query import parse as parse_query
from terminology.versions import order

T = TypeVar("T")
Find: TypeAlias = Callable[[str, str], Resource | None]
Targets: TypeAlias = dict[str, Resource | None]

KEEP = 60.0  # seconds until a definition is looked up again, even when nobody told of a change
LOOK = 0.05  # seconds until it is asked again whether another process changed one
# What validation looks up.
DEFINING = frozenset(("StructureDefinition", "Questionnaire", "Measure", "SearchParameter"))
ROUNDS = 30  # tries of one validation: each finds what the one before asked for; US Core needs 5 for a Patient
MOST_HELD = 5_000
MOST_LEARNT = 500
QUIET = Options(unknown_profiles="", warnings=False)
BASES = frozenset(f"http://hl7.org/fhir/StructureDefinition/{name}" for name in RESOURCE_TYPES)


class Missing(Exception):
    """A definition or a resource that was not looked up yet."""

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(kind, name)
        self.key = (kind, name)


class Definitions:
    """Stored definitions by kind and url, and the trees of profiles compiled from them."""

    def __init__(self, mark: int = -1) -> None:
        self.mark = mark
        self.looked = 0.0
        self.trees: dict[str, Definition | None] = {}
        self._held: dict[tuple[str, str], tuple[float, tuple[Any, ...], Shelf]] = {}

    def find(self, kind: str, canonical: str) -> Resource | None:
        """A stored definition; Missing when nobody has looked lately."""
        url = canonical.partition("|")[0]
        held = self._held.get((kind, url))
        if held is None or held[0] < time.monotonic():
            raise Missing(kind, url)
        return held[2].find(kind, canonical)

    async def learn(self, kind: str, url: str, context: Context) -> None:
        """Look a definition up; where it changed, everything compiled is compiled anew."""
        found = await _stored(kind, url, context)
        names = tuple((row.id, row.version) for row in found)
        held = self._held.get((kind, url))
        same = held is not None and held[1] == names
        shelf = held[2] if held is not None and same else _shelf(found)
        if not same and (held is not None or found):
            self.trees = {}
        if len(self._held) >= MOST_HELD:
            self._held.clear()
        self._held[kind, url] = (time.monotonic() + KEEP, names, shelf)


def _shelf(found: Iterable[Stored]) -> Shelf:
    """The definitions, the latest version last: it is meant where none is named."""
    return Shelf(sorted((decode(row.body or b"{}") for row in found), key=lambda row: order(row.get("version"))))


_DEFINITIONS: WeakKeyDictionary[Store, Definitions] = WeakKeyDictionary()


async def _definitions_of(store: Store) -> Definitions:
    """What is held, or nothing yet where a definition was written since."""
    held = _DEFINITIONS.setdefault(store, Definitions())
    now = time.monotonic()
    if now - held.looked > LOOK:
        mark = await definitions_mark(store)
        if mark != held.mark:
            held = _DEFINITIONS[store] = Definitions(mark)
        held.looked = now
    return held


async def defined(store: Store) -> None:
    """A definition was written: every process looks anew, this one at once."""
    await definitions_changed(store)
    if store in _DEFINITIONS:
        _DEFINITIONS[store].looked = 0.0


async def _stored(kind: str, url: str, context: Context) -> Sequence[Stored]:
    if context.registry.lookup(kind, "url") is None:
        return ()
    query = parse_query(kind, [("url", url), ("_count", "50"), ("_total", "none")], context.registry)
    return (await find(store_of(context), query, registry=context.registry)).matches


def store_of(context: Context) -> Store:
    """Definitions are read beside the transaction that a request may run in."""
    store = context.outer or context.store
    if not isinstance(store, Store):
        raise FhirError("exception", "A transaction without its store.")
    return store


async def faults(resource: Resource, type: str, request: Request, context: Context, size: int = 0) -> list[Issue]:
    """What keeps a resource from being stored; [] when it may be. `size` is that of its body in bytes."""
    big = size >= context.config.big_body
    found = await asyncio.to_thread(check, resource, type) if big else check(resource, type)
    found = found or list(unsafe_narratives(resource))
    if type == "SearchParameter" and not found:
        found = unusable(resource, context.registry)
    config = context.config
    if found or not (config.check_profiles or config.required_profiles):
        return found
    required = config.required_profiles.get(type, ())
    if not required and not await _claims_a_known_one(resource, context):
        return []
    issues = await full(resource, request, context, required, QUIET, size)
    return [issue for issue in issues if issue.is_error]


async def _claims_a_known_one(resource: Resource, context: Context) -> bool:
    """Whether a profile that the resource claims can be checked: one that is installed, or of the specification."""
    meta = resource.get("meta")
    if not meta or not context.config.check_profiles:
        return False
    for url in meta.get("profile", ()):
        if isinstance(url, str) and url not in BASES and await _is_known(url, context):
            return True
    return False


async def _is_known(url: str, context: Context) -> bool:
    if url.partition("|")[0] in definition_urls("StructureDefinition"):
        return True
    definitions = await _definitions_of(store_of(context))
    try:
        return definitions.find("StructureDefinition", url) is not None
    except Missing as missing:
        await definitions.learn(*missing.key, context)
        return definitions.find("StructureDefinition", url) is not None


async def full(
    resource: Any,
    request: Request,
    context: Context,
    profiles: Iterable[str] = (),
    options: Options | None = None,
    size: int = 0,
    along: Sequence[Resource] = (),
) -> list[Issue]:
    """Every issue of a resource, against the base, its claims and these profiles, with the stored definitions.

    Definitions that came `along` stand before them, for this check alone.

    What is missing on the way is noted and counts as unknown; a try that missed something is done again with it.
    """
    store = store_of(context)
    definitions, terms, urls = await _definitions_of(store), terms_of(store, context.registry), tuple(profiles)
    targets: Targets = {}
    told: Found = {}
    official: dict[tuple[str, str], Resource | None] = {}
    shelf = Shelf(along)
    for _ in range(ROUNDS):
        wanted = Wanted()
        before = definitions.trees
        trees = {} if along else dict(before)
        terminology = terms.library(told).under(along)
        library = Library(
            wanted.noting(_nearest(shelf, definitions.find)),
            wanted.noting(membership(terminology)),
            wanted.noting(_resolver(targets, context)),
            wanted.noting(code_faults(terminology)),
            trees,
            wanted.noting(subsumption(terminology)),
            official,
        )
        if size >= context.config.big_body:
            issues = await asyncio.to_thread(validate, resource, library, profiles=urls, options=options)
        else:
            issues = validate(resource, library, profiles=urls, options=options)
        if not wanted:
            if definitions.trees is before and not along:  # no definition has changed meanwhile
                before |= trees
            return issues
        await wanted.fetch(definitions, terms, told, targets, request, context)
    raise FhirError("too-costly", "The validation needs too many definitions.")


def _nearest(shelf: Shelf, find: Find) -> Find:
    """The definition that came along, or else the one that `find` has."""

    def found(kind: str, canonical: str) -> Resource | None:
        nearest = shelf.find(kind, canonical)
        return find(kind, canonical) if nearest is None else nearest

    return found


async def structures(work: Callable[[Callable[[str], Resource | None]], T], context: Context) -> T:
    """The result of `work`, which is given a way to find StructureDefinitions by url."""
    definitions = await _definitions_of(store_of(context))
    library = Library(definitions.find)
    for _ in range(MOST_LEARNT):
        try:
            return work(library.structure)
        except Missing as missing:
            await definitions.learn(*missing.key, context)
    raise FhirError("too-costly", "This needs too many definitions.")


@dataclass(slots=True)
class Wanted:
    """What one try asked for and nobody had looked up: by kind and name, and of the terminology."""

    definitions: set[tuple[str, str]] = field(default_factory=set)
    terms: set[Key] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.definitions or self.terms)

    def noting(self, ask: Callable[..., T]) -> Callable[..., T | None]:
        """The same question with None for an answer where something is missing, which is noted."""

        def asked(*values: Any) -> T | None:
            try:
                return ask(*values)
            except Missing as missing:
                self.definitions.add(missing.key)
            except Untold as missing:
                self.terms.add(missing.key)
            return None

        return asked

    async def fetch(
        self, definitions: Definitions, terms: Terms, told: Found, targets: Targets, request: Request, context: Context
    ) -> None:
        """Look up all of it at once."""
        named = {name for kind, name in self.definitions if kind == "Reference"}
        await asyncio.gather(
            terms.look_up(told, self.terms),
            *(definitions.learn(kind, url, context) for kind, url in self.definitions if kind != "Reference"),
            *(_fetch(name, targets, request, context) for name in named),
        )


async def _fetch(name: str, targets: Targets, request: Request, context: Context) -> None:
    """A resource that the caller may not see is not there."""
    stored = await access.reached(name, request, context)
    targets[name] = decode(stored.body) if stored is not None and stored.body is not None else None


def _resolver(targets: Targets, context: Context) -> Callable[[str], Resource | None]:
    def resolve(reference: str) -> Resource | None:
        name = local_name(reference, context.config.base)
        if name is None:
            return None
        if name not in targets:
            raise Missing("Reference", name)
        return targets[name]

    return resolve
