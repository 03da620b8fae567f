"""Membership of a List, and what is above or below a resource in a tree such as that of Location.partOf."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fhir_server.store.find.references import referred
from fhir_server.store.records import Document
from profiles.outcome import FhirError
from search.clauses import NEVER, Clause, Ids, Kinds, Listed, OneOf, every
from search.params import TYPE_CODES
from search.types.reference import PART_OF

if TYPE_CHECKING:
    from fhir_server.store.find.links import Links

# As many names as go into one query.
MOST = 1_000


async def listed(links: Links, clause: Listed) -> Clause:
    """The items of a List as names, or what lies above or below in a tree as entries."""
    if clause.how == "list":
        row = await one(links, "List", clause.value)
        items = links.search.registry.lookup("List", "item")
        kinds = [clause.target] if clause.target else sorted(TYPE_CODES)
        found = [n for kind in kinds for n in referred(row, items.keys, kind)] if row and items else []
        return Ids(tuple(sorted(set(found)))) if found else NEVER
    names = await _tree(links, clause)
    code = TYPE_CODES[clause.target]
    return OneOf(tuple(f"{k}{code}{n.partition('/')[2]}" for k in clause.keys for n in names))


async def one(links: Links, kind: str, name: str) -> Document | None:
    clause = await links.resolved(every((Kinds((kind,)), Ids((name,)), links.allowed(kind))))
    rows = await links.checked(clause)
    return rows[0] if rows else None


async def _tree(links: Links, clause: Listed) -> list[str]:
    """The resource and what lies above or below it, each once, however the tree is knotted."""
    parent = links.search.registry.lookup(clause.target, PART_OF[clause.target])
    assert parent is not None
    seen, edge = {clause.value: None}, [clause.value]
    code = TYPE_CODES[clause.target]
    while edge:
        if clause.how == "below":
            texts = tuple(f"{k}{code}{n.partition('/')[2]}" for k in parent.keys for n in edge)
            step: Clause = OneOf(texts)
        else:
            step = Ids(tuple(edge))
        allowed = await links.resolved(every((Kinds((clause.target,)), step, links.allowed(clause.target))))
        rows = await links.checked(allowed)
        names = [r["_id"] for r in rows] if clause.how == "below" else _above(rows, parent.keys, clause.target)
        edge = [n for n in dict.fromkeys(names) if n not in seen]
        seen.update(dict.fromkeys(edge))
        if len(seen) > MOST:
            raise FhirError("too-costly", f":{clause.how}: more than {MOST:,} resources {clause.how} {clause.value}")
    return list(seen)


def _above(rows: list[Document], keys: tuple[str, ...], kind: str) -> list[str]:
    return [name for row in rows for name in referred(row, keys, kind)]
