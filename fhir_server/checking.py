"""Checking on the way in: base definitions always, profiles where they are claimed, required or asked for.

Validation is pure and does not wait; what it needs from the database is looked up between two tries.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from fhir_server import access
from fhir_server.context import Context, Request, Resource
from fhir_server.ids import local_name
from fhir_server.respond import EPOCH
from fhir_server.store import Store, Stored
from fhir_server.store.find import find
from fhir_server.store.terms import terms_of
from profiles.json import parse
from profiles.model import RESOURCE_TYPES, definition_urls
from profiles.outcome import FhirError, Issue
from profiles.validate import Library, Options, Shelf, check, validate
from profiles.validate.definitions import Definition
from search.defining import faults as unusable
from search.query import parse as parse_query
from terminology.expand import Clock
from terminology.library import Library as Terminology
from terminology.operations import Asking
from terminology.operations import run as ask
from terminology.request import Parameters
from terminology.versions import order

T = TypeVar("T")

KEEP = 2.0  # seconds until a definition is looked up again: a changed profile takes effect in all workers by then
ROUNDS = 500  # lookups of one validation; US Core needs about 30 for a Patient
MOST_HELD = 5_000
LOUD = ("error", "fatal")
QUIET = Options(unknown_profiles="")
BASES = frozenset(f"http://hl7.org/fhir/StructureDefinition/{name}" for name in RESOURCE_TYPES)


class Missing(Exception):
    """A definition or a resource that was not looked up yet."""

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(kind, name)
        self.key = (kind, name)


class Definitions:
    """Stored definitions by kind and url, and the trees of profiles compiled from them."""

    def __init__(self) -> None:
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
    return Shelf(sorted((parse(row.body or b"{}") for row in found), key=lambda row: order(row.get("version"))))


_DEFINITIONS: WeakKeyDictionary[Store, Definitions] = WeakKeyDictionary()


def _definitions_of(store: Store) -> Definitions:
    return _DEFINITIONS.setdefault(store, Definitions())


def forget(store: Store) -> None:
    """Look every definition up again, now."""
    _DEFINITIONS.pop(store, None)


async def _stored(kind: str, url: str, context: Context) -> Sequence[Stored]:
    if context.registry.lookup(kind, "url") is None:
        return ()
    query = parse_query(kind, [("url", url), ("_count", "50"), ("_total", "none")], context.registry)
    return (await find(_store(context), query, registry=context.registry)).matches


def _store(context: Context) -> Store:
    """Definitions are read beside the transaction that a request may run in."""
    store = context.outer or context.store
    if not isinstance(store, Store):
        raise FhirError("exception", "A transaction without its store.")
    return store


async def faults(resource: Resource, type: str, request: Request, context: Context, size: int = 0) -> list[Issue]:
    """What keeps a resource from being stored; [] when it may be. `size` is that of its body in bytes."""
    big = size >= context.config.big_body
    found = await asyncio.to_thread(check, resource, type) if big else check(resource, type)
    if type == "SearchParameter" and not found:
        found = unusable(resource, context.registry)
    config = context.config
    if found or not (config.check_profiles or config.required_profiles):
        return found
    required = config.required_profiles.get(type, ())
    if not required and not await _claims_a_known_one(resource, context):
        return []
    issues = await full(resource, request, context, required, QUIET)
    return [issue for issue in issues if issue.severity in LOUD]


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
    definitions = _definitions_of(_store(context))
    try:
        return definitions.find("StructureDefinition", url) is not None
    except Missing as missing:
        await definitions.learn(*missing.key, context)
        return definitions.find("StructureDefinition", url) is not None


async def full(
    resource: Any, request: Request, context: Context, profiles: Iterable[str] = (), options: Options | None = None
) -> list[Issue]:
    """Every issue of a resource, against the base, its claims and these profiles, with the stored definitions."""
    store = _store(context)
    definitions, urls = _definitions_of(store), tuple(profiles)
    targets: dict[str, Resource | None] = {}

    def work(terminology: Terminology) -> list[Issue]:
        library = Library(
            definitions.find, membership(terminology), _resolver(targets, context), trees=definitions.trees
        )
        return validate(resource, library, profiles=urls, options=options)

    for _ in range(ROUNDS):
        try:
            return await terms_of(store, context.registry).ask(work)
        except Missing as missing:
            await _fetch(missing, definitions, targets, request, context)
    raise FhirError("too-costly", "The validation needs too many definitions.")


async def structures(work: Callable[[Callable[[str], Resource | None]], T], context: Context) -> T:
    """The result of `work`, which is given a way to find StructureDefinitions by url."""
    definitions = _definitions_of(_store(context))
    library = Library(definitions.find)
    for _ in range(ROUNDS):
        try:
            return work(library.structure)
        except Missing as missing:
            await definitions.learn(*missing.key, context)
    raise FhirError("too-costly", "This needs too many definitions.")


async def _fetch(
    missing: Missing,
    definitions: Definitions,
    targets: dict[str, Resource | None],
    request: Request,
    context: Context,
) -> None:
    """Look up what a validation asked for; a resource that the caller may not see is not there."""
    kind, name = missing.key
    if kind != "Reference":
        await definitions.learn(kind, name, context)
        return
    stored = await access.reached(name, request, context)
    targets[name] = parse(stored.body) if stored is not None and stored.body is not None else None


def _resolver(targets: dict[str, Resource | None], context: Context) -> Callable[[str], Resource | None]:
    def resolve(reference: str) -> Resource | None:
        name = local_name(reference, context.config.base)
        if name is None:
            return None
        if name not in targets:
            raise Missing("Reference", name)
        return targets[name]

    return resolve


# The type of a value -> the parameter of $validate-code that takes it.
CODED = {"Coding": ("coding", "valueCoding"), "CodeableConcept": ("codeableConcept", "valueCodeableConcept")}
NO_CLOCK = Clock(EPOCH, "")


def membership(terminology: Terminology) -> Callable[[Any, str, str], bool | None]:
    """Whether a value is in a value set, None where the terminology cannot tell."""

    def member_of(value: Any, type: str, value_set: str) -> bool | None:
        url, _, version = value_set.partition("|")
        rows: list[Resource] = [{"name": "url", "valueUri": url}]
        rows += [{"name": "valueSetVersion", "valueString": version}] if version else []
        if type == "Quantity":
            value, type = {"system": value.get("system"), "code": value.get("code")}, "Coding"
        if type in CODED:
            name, key = CODED[type]
            rows.append({"name": name, key: value})
        else:
            rows += [{"name": "code", "valueCode": value}, {"name": "inferSystem", "valueBoolean": True}]
        try:
            answer = ask("ValueSet", "validate-code", Asking(terminology, Parameters(rows), NO_CLOCK))
        except FhirError:
            return None
        return _verdict(answer)

    return member_of


def _verdict(answer: Resource) -> bool | None:
    """The result; False only where the code is wrong, not where its code system or the value set is unknown."""
    named = {row["name"]: row for row in answer.get("parameter", ())}
    if named.get("result", {}).get("valueBoolean"):
        return True
    unknown = {"x-caused-by-unknown-system", "x-unknown-system"} & set(named)
    issues = named.get("issues", {}).get("resource", {}).get("issue", ())
    return None if unknown or any(issue.get("code") == "not-found" for issue in issues) else False
