"""Resolvers: how each kind of field finds its value (R4 graphql.html#fields, #searching, #reverse, #mutations)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from graphql import FieldNode, GraphQLResolveInfo, get_directive_values
from graphql.type import GraphQLDirective

from fhir_server.context import Pairs, Resource
from fhir_server.graphql.names import arguments_of
from fhir_server.graphql.reading import Reading
from profiles.json import check_depth
from profiles.model import RESOURCE_TYPES
from profiles.outcome import FhirError
from search.query import MOST_COUNT

Resolver: TypeAlias = Callable[..., Any]
Info: TypeAlias = GraphQLResolveInfo

PLAIN = ("_filter", "_sort", "_count", "_total")  # arguments that are parameters as they are
APART = frozenset(("_reference", "_cursor", "cursor", "fhirpath", "_count", "_offset"))


# Elements


def elements(kind: str) -> Resolver:
    """A field of elements of the type: those that its arguments and directives leave."""

    def resolve(source: Any, info: Info, **arguments: Any) -> Any:
        found = source.get(info.field_name)
        if found is None:
            return None
        items = found if isinstance(found, list) else [found]
        if arguments:
            items = _narrowed(items, kind, arguments, info.context)
        items = _directed(items, kind, info)
        return items if isinstance(found, list) else next(iter(items), None)

    return resolve


def _narrowed(items: list[Any], kind: str, arguments: dict[str, Any], reading: Reading) -> list[Any]:
    """`name(use: official)`, `fhirpath`, `_offset` and `_count`; a filter counts before the stretch is taken."""
    for name, wanted in arguments.items():
        if wanted is None or name in ("_offset", "_count"):
            continue
        if name == "fhirpath":
            items = [item for item in items if item is not None and reading.is_true(wanted, item, kind)]
        else:
            items = [item for item in items if isinstance(item, dict) and _same(item.get(name), wanted)]
    return _stretch(items, arguments)


def _stretch(items: list[Any], arguments: dict[str, Any]) -> list[Any]:
    start, size = (_whole(arguments, name) for name in ("_offset", "_count"))
    return items[start or 0 :][:size]


def _whole(arguments: dict[str, Any], name: str) -> int | None:
    found = arguments.get(name)
    if found is not None and found < 0:
        raise FhirError("value", f"{name}={found} is no whole number from 0 on.", name, status=400)
    return None if found is None else int(found)


def _same(found: Any, wanted: Any) -> bool:
    if isinstance(found, list):
        return any(_same(item, wanted) for item in found)
    if isinstance(found, bool) or isinstance(wanted, bool):
        return found is wanted
    return found is not None and str(found) == str(wanted)


def _directed(items: list[Any], kind: str, info: Info) -> list[Any]:
    """`@first` takes one; for `@slice` the suffixes are worked out, while the elements are whole."""
    named = {directive.name.value for node in info.field_nodes for directive in node.directives or ()}
    if "first" in named:
        items = items[:1]
    if "slice" in named:
        path = _argument(info, "slice", "path")
        key = tuple(info.path.as_list())
        info.context.suffixes[key] = [_suffix(path, n, item, kind, info.context) for n, item in enumerate(items)]
    return items


def _argument(info: Info, directive: str, name: str) -> str:
    known: GraphQLDirective | None = info.schema.get_directive(directive)
    for node in info.field_nodes:
        found = get_directive_values(known, node, info.variable_values) if known else None
        if found:
            return str(found[name])
    return ""


def _suffix(path: str, number: int, item: Any, kind: str, reading: Reading) -> str:
    if path == "$index":
        return str(number)
    return "".join(str(value) for value in reading.evaluated(path, item, kind))


# References


async def target(source: Any, info: Info, optional: bool = False, type: str | None = None) -> Resource | None:
    """`subject { resource(type: Patient, optional: true) { ... } }`: what is not of the type is left out."""
    if type is not None and type not in RESOURCE_TYPES:
        raise FhirError("value", f"type: {type} is no resource type of FHIR R4.", "type", status=400)
    found = await info.context.follow(source)
    if found is None and not optional:
        told = source.get("reference") or "The reference"
        raise FhirError("not-found", f"{told} cannot be resolved; resource(optional: true) leaves it out.")
    if found is not None and type is not None and found["resourceType"] != type:
        return None
    return found  # type: ignore[no-any-return]


def reading(kind: str) -> Resolver:
    """`Patient(id: example)`."""

    async def resolve(source: Any, info: Info, id: str) -> Resource:
        found: Resource | None = await info.context.read(kind, id)
        if found is None:
            raise FhirError("not-found", f"{kind}/{id} is not known.")
        return found

    return resolve


# Searches


def searching(kind: str, paged: bool) -> Resolver:
    """`ConditionList(...)` or `ConditionConnection(...)`, with `_reference` those that refer to the source."""
    run = _connection if paged else _list

    async def resolve(source: Any, info: Info, **arguments: Any) -> Any:
        given = {name: value for name, value in arguments.items() if value is not None}
        pairs = _pairs(kind, given, info.context)
        if "_reference" in given:
            pairs.append(_reverse(kind, given["_reference"], source, info.context))
        return await run(kind, pairs, given, info)

    return resolve


def _pairs(kind: str, given: dict[str, Any], reading: Reading) -> Pairs:
    """The search parameters; values in an array are alternatives."""
    known = arguments_of(reading.context.registry, kind)
    pairs: Pairs = []
    for name, value in given.items():
        if name in APART:
            continue
        texts = [_text(item) for item in (value if isinstance(value, list) else [value]) if item is not None]
        if name in PLAIN:
            pairs += [(name, text) for text in texts]
        elif texts:
            pairs.append((known[name].code, ",".join(text.replace(",", "\\,") for text in texts)))
    return pairs


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _reverse(kind: str, name: str, source: Resource, reading: Reading) -> tuple[str, str]:
    known = arguments_of(reading.context.registry, kind)
    row = known.get(name.replace("-", "_"))
    if row is None or row.type != "reference":
        choices = ", ".join(sorted(key for key, each in known.items() if each.type == "reference"))
        raise FhirError("value", f"_reference: {kind} has no reference {name!r}; it has {choices}.", status=400)
    if "id" not in source:
        raise FhirError("value", "What has no id of its own is referred to by nothing.", status=400)
    return row.code, f"{source['resourceType']}/{source['id']}"


async def _list(kind: str, pairs: Pairs, given: dict[str, Any], info: Info) -> list[Resource]:
    """All matches, or those that `_offset` and `_count` ask for; never silently fewer."""
    reading: Reading = info.context
    most = min(reading.context.config.max_count, MOST_COUNT)
    start, size = _whole(given, "_offset") or 0, _whole(given, "_count")
    whole = size is None or "fhirpath" in given
    wanted = most if whole else start + min(size or 0, most)
    if wanted > most:
        raise FhirError("too-costly", f"_offset and _count reach beyond {most:,}; use {kind}Connection.")
    if wanted == 0:
        return []
    found, rows = await reading.search(kind, [*pairs, ("_count", str(wanted)), ("_total", "none")])
    if whole and found.next is not None:
        raise FhirError("too-costly", f"{kind}List finds more than {most:,}; narrow it, or use {kind}Connection.")
    if "fhirpath" in given:
        rows = [row for row in rows if reading.is_true(given["fhirpath"], row, kind)]
    return _directed(_stretch(rows, given), kind, info)


async def _connection(kind: str, pairs: Pairs, given: dict[str, Any], info: Info) -> Resource:
    """A page with its cursors, which carry the search."""
    reading: Reading = info.context
    state = _state(kind, pairs, given, info)
    asked: Pairs = [(name, value) for name, value in state["query"]]
    found, rows = await reading.search(kind, [*asked, ("_count", str(state["count"]))], state.get("cursor"))
    start, size = state.get("offset", 0), state["count"]
    scores = found.scores
    edges = [
        {"mode": "match", "score": scores.get(f"{kind}/{row['id']}"), "resource": row}
        for row in rows
        if not state["fhirpath"] or reading.is_true(state["fhirpath"], row, kind)
    ]

    def cursor(payload: Any, offset: int) -> str | None:
        return reading.sealed(kind, {**state, "cursor": payload, "offset": max(offset, 0)}) if payload else None

    return {
        "count": found.total,
        "offset": start,
        "pagesize": size,
        "pageSize": size,
        "edges": edges,
        "first": cursor(found.first, 0),
        "previous": cursor(found.prev, start - size),
        "next": cursor(found.next, start + size),
    }


def _state(kind: str, pairs: Pairs, given: dict[str, Any], info: Info) -> Any:
    """What a connection asks for: what its cursor says, or what its arguments do."""
    reading: Reading = info.context
    cursor = given.get("_cursor") or given.get("cursor")
    if cursor is not None:
        if len(given) > 1:
            raise FhirError("invalid", "A cursor carries its search; no other argument goes with it.", "_cursor")
        return reading.opened(kind, cursor)
    config, size = reading.context.config, _whole(given, "_count")
    count = min(config.count if size is None else size, config.max_count, MOST_COUNT)
    if "_offset" in given:
        raise FhirError("not-supported", f"{kind}Connection is walked by its cursors, not by _offset.", "_offset")
    total = "accurate" if _wants_count(info) else "none"
    return {"query": [*pairs, ("_total", total)], "count": count, "fhirpath": given.get("fhirpath")}


def _wants_count(info: Info) -> bool:
    """Whether the total is asked for: it costs a look at every match. What a fragment asks for is not looked at."""
    chosen = (
        each for node in info.field_nodes for each in (node.selection_set.selections if node.selection_set else ())
    )
    return any(not isinstance(each, FieldNode) or each.name.value == "count" for each in chosen)


# Mutations


def writing(kind: str) -> Resolver:
    """`PatientCreate(res: ...)` and `PatientUpdate(id: ..., res: ...)`."""

    async def resolve(source: Any, info: Info, res: Resource, id: str = "") -> Resource | None:
        own = res.get("resourceType", kind)
        resource = {"resourceType": own} | {key: value for key, value in _given(res).items() if key != "resourceType"}
        if id:
            resource.setdefault("id", id)
        check_depth(resource)
        written: Resource | None = await info.context.write("PUT" if id else "POST", kind, id, resource)
        return written

    return resolve


def deleting(kind: str) -> Resolver:
    """`PatientDelete(id: ...)`: true, whether or not there was anything to delete."""

    async def resolve(source: Any, info: Info, id: str) -> bool:
        await info.context.write("DELETE", kind, id)
        return True

    return resolve


def _given(node: Any) -> Any:
    """What was given: null is GraphQL's word for an absent property."""
    if isinstance(node, dict):
        return {key: _given(value) for key, value in node.items() if value is not None}
    return [_given(item) for item in node] if isinstance(node, list) else node
