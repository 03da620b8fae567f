"""$graph: the resources that a GraphDefinition leads to (R4 resource-operation-graph.html, graphdefinition.html)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from fhir_server.access.views import view_target, views
from fhir_server.answers.paging import self_url
from fhir_server.answers.respond import Response, searchset
from fhir_server.context import Context, Resource
from fhir_server.operations.call import Call
from fhir_server.operations.compartments import broken_rules
from fhir_server.operations.stored import stored_version
from fhir_server.store import Stored
from fhir_server.writing.checking import full
from fhir_server.writing.integrity import targets
from profiles.fhirpath import Environment, compile
from profiles.json import decode
from profiles.model import RESOURCE_TYPES
from profiles.outcome import FhirError, Issue

MOST = 1_000  # resources of a graph
MOST_SEARCHES = 500  # reverse links looked up
PAGE = 200  # resources of one look-up
SECONDS = 15.0
REF = "{ref}"
ANY = "Resource"

Row = tuple[Stored, Resource]


async def run(call: Call, context: Context) -> Response:
    """A searchset: the instance is the match, what its links lead to is included, and what breaks a rule is told."""
    walk = await walked(await stored_version(call, context), call, context)
    return _answer(walk, call, context)


async def walked(first: Stored, call: Call, context: Context) -> Walk:
    """All that the parameter `graph` leads to from a resource."""
    definition = await _definition(str(call.one("graph")), call, context)
    if definition["start"] not in (first.type, ANY):
        text = f"The graph starts at {definition['start']}, not at {first.type}."
        raise FhirError("invalid", text, "graph")
    walk = Walk(call, context)
    root = walk.take(first)
    try:
        async with asyncio.timeout(SECONDS):
            await walk.follow(root, definition.get("link", ()), "GraphDefinition")
    except TimeoutError:
        raise FhirError("too-costly", f"The graph takes more than {SECONDS:.0f} seconds.") from None
    return walk


def _answer(walk: Walk, call: Call, context: Context) -> Response:
    rows = [(stored, stored.body or b"") for stored, _ in walk.found.values()]
    links = {"self": self_url(call.request, [("graph", str(call.one("graph")))], context)}
    body = searchset(rows[:1], rows[1:], context=context, total=1, links=links, warnings=walk.warnings)
    return Response(200, {}, body, compartments=tuple(stored.compartment for stored, _ in rows))


async def _definition(name: str, call: Call, context: Context) -> Resource:
    """The GraphDefinition by its canonical url, or by a reference to it here, or its id; the latest of several."""
    url, _, version = name.partition("|")
    asked = [("url", url), *([("version", version)] if version else []), ("_sort", "-date"), ("_count", "1")]
    found = (await views(call.request, context, "GraphDefinition", asked)).matches
    if not found:
        stored = await view_target(call.request, context, name if "/" in name else f"GraphDefinition/{name}")
        found = [stored] if stored is not None and stored.type == "GraphDefinition" else []
    if not found:
        raise FhirError("not-found", f"The GraphDefinition {name} is not known.", "graph")
    definition: Any = decode(found[0].body or b"{}")
    return definition  # type: ignore[no-any-return]


@dataclass(slots=True)
class Walk:
    """A graph that is being gathered: each resource once, by name, in the order in which it was met."""

    call: Call
    context: Context
    found: dict[str, Row] = field(default_factory=dict)
    warnings: list[Issue] = field(default_factory=list)
    searches: int = 0
    _passed: set[tuple[str, str]] = field(default_factory=set)

    def take(self, stored: Stored) -> Row:
        """Put a resource into the graph."""
        name = f"{stored.type}/{stored.id}"
        if name not in self.found:
            if len(self.found) >= MOST:
                raise FhirError("too-costly", f"The graph would have more than {MOST:,} resources.")
            self.found[name] = (stored, _parsed(stored))
        return self.found[name]

    async def follow(self, source: Row, links: Any, place: str) -> None:
        """Follow the links of a place in the definition, from each resource only once."""
        key = (f"{source[0].type}/{source[0].id}", place)
        if key in self._passed:
            return
        self._passed.add(key)
        for number, link in enumerate(links):
            await self._link(source, link, f"{place}.link[{number}]")

    async def _link(self, source: Row, link: Resource, place: str) -> None:
        if "sliceName" in link:
            raise FhirError("not-supported", "Links on slices are not followed.", f"{place}.sliceName", status=501)
        wanted = list(enumerate(link.get("target", ()))) or [(0, {"type": ANY})]
        reached: dict[str, list[tuple[Stored, Any, str]]] = {}
        candidates = await self._named(source, link["path"], place) if "path" in link else []
        for number, target in wanted:
            spot = f"{place}.target[{number}]"
            rows = candidates if "path" in link else await self._referring(source, target, spot)
            for stored in [row for row in rows if target["type"] in (ANY, row.type)]:
                if await self._fits(source, stored, target, spot):
                    reached.setdefault(f"{stored.type}/{stored.id}", []).append((stored, target, spot))
        for group in self._counted(list(reached.values()), source, link, place):
            for stored, target, spot in group:
                await self.follow(self.take(stored), target.get("link", ()), spot)

    def _counted(self, reached: list[Any], source: Row, link: Resource, place: str) -> list[Any]:
        """As many as the link allows; too few and too many are told."""
        name = f"{source[0].type}/{source[0].id}"
        least, most = link.get("min", 0), link.get("max", "*")
        if len(reached) < least:
            self._warn(f"{place} leads from {name} to {len(reached)} resources; at least {least} are expected.", place)
        if most.isdigit() and len(reached) > int(most):
            self._warn(f"{place} leads from {name} to {len(reached)} resources; the first {most} are here.", place)
            return reached[: int(most)]
        return reached

    def _warn(self, text: str, place: str) -> None:
        self.warnings.append(Issue("warning", "business-rule", text, (place,)))

    # Where a link leads

    async def _named(self, source: Row, path: str, place: str) -> list[Stored]:
        """The targets of the references at a path; `*` is every reference."""
        every = sorted(targets(source[1], self.context.config.base)) if path == "*" else self._at(source, path, place)
        names = list(dict.fromkeys(every))
        seen = await asyncio.gather(*(view_target(self.call.request, self.context, name) for name in names))
        return [stored for stored in seen if stored is not None]

    def _at(self, source: Row, path: str, place: str) -> Iterator[str]:
        try:
            nodes = compile(path, source[0].type)(source[1], Environment(now=self.context.now()))
        except FhirError as error:
            raise FhirError(error.code, f"{path}: {error.text}", f"{place}.path", status=422) from None
        for node in nodes:
            text = node.value.get("reference") if isinstance(node.value, dict) else node.value
            if isinstance(text, str):
                yield text

    async def _referring(self, source: Row, target: Resource, place: str) -> list[Stored]:
        """What the parameters find: `{ref}` in them stands for the resource that the link starts from."""
        name = f"{source[0].type}/{source[0].id}"
        params = str(target.get("params", "")).removeprefix("?")
        if REF not in params or target["type"] not in RESOURCE_TYPES:
            text = f"Without a path a link needs a type and params with {REF}, such as subject={REF}."
            raise FhirError("business-rule", text, f"{place}.params", status=422)
        pairs = [(key, value.replace(REF, name)) for key, value in parse_qsl(params, keep_blank_values=True)]
        found, cursor = [], None
        while True:
            self.searches += 1
            if self.searches > MOST_SEARCHES:
                raise FhirError("too-costly", f"The graph needs more than {MOST_SEARCHES} searches.")
            page = await views(self.call.request, self.context, target["type"], [*pairs, *self._paged(pairs)], cursor)
            found += page.matches
            self.warnings += [issue for issue in page.warnings if issue not in self.warnings]
            cursor = page.next
            if cursor is None or len(found) > MOST or any(key == "_count" for key, _ in pairs):
                return found

    def _paged(self, pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
        return [] if any(key == "_count" for key, _ in pairs) else [("_count", str(PAGE)), ("_total", "none")]

    async def _fits(self, source: Row, stored: Stored, target: Resource, place: str) -> bool:
        """Whether a target keeps the rules of its compartments and has its profile."""
        name, resource = f"{stored.type}/{stored.id}", _parsed(stored)
        rules = target.get("compartment", ())
        for number, rule in broken_rules(rules, source[1], resource, self.context):
            spot = f"{place}.compartment[{number}]"
            self._warn(f"{name} is left out: it breaks the rule {rule['rule']} for {rule['code']}.", spot)
            return False
        profile = target.get("profile")
        if profile is None:
            return True
        issues = await full(resource, self.call.request, self.context, [profile])
        return not any(issue.is_error for issue in issues)


def _parsed(stored: Stored) -> Resource:
    found: Any = decode(stored.body or b"{}")
    return found  # type: ignore[no-any-return]
