"""`_containedType=contained`: the matches are contained resources themselves, and a page may end within a container.

http://hl7.org/fhir/R4/search.html#contained, http://hl7.org/fhir/R4/search.html#count
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from fhir_server.store.find.search import Search, filled
from fhir_server.store.records import Document, Stored, stored_of
from profiles.json import decode, encode
from search.contained import fitting, too_far
from search.matches import matches
from search.query import Query


@dataclass(frozen=True, slots=True)
class Part:
    """What a page shows of some containers: `rows` are those it shows something of, `done` those it leaves nothing of,
    and `within` is how many of the next one have been shown."""

    shown: list[Stored]
    rows: list[Document]
    done: list[Document]
    within: int
    more: bool


def is_inside(query: Query) -> bool:
    """Whether the matches are contained resources themselves."""
    return query.contained != "false" and query.contained_type == "contained"


async def part_of(search: Search, rows: list[Document], within: int, count: int) -> Part:
    """The first `count` matches in the containers; of the first container `within` were shown before."""
    shown: list[Stored] = []
    for n, row in enumerate(rows):
        found = (await inner(search, row))[within:]
        fits = found[: count - len(shown)]
        shown += fits
        if len(fits) < len(found):
            return Part(shown, rows[: n + bool(fits)], rows[:n], within + len(fits), more=True)
        within = 0
    return Part(shown, rows, rows, 0, more=len(rows) > count)


async def inner(search: Search, row: Document) -> list[Stored]:
    """The matches in one container, after itself where `_contained=both` finds it too."""
    query = search.query
    [stored] = await filled(search, [stored_of(row)])
    resource = decode(stored.body or b"{}")
    assert isinstance(resource, dict)
    itself = query.contained == "both" and matches(query.clauses, stored.entries, resource, too_far)
    within = fitting(resource, query, search.registry)
    parts = [replace(stored, id=f"{stored.id}#{c.get('id', '')}", body=encode(c), entries=()) for c in within]
    return [stored, *parts] if itself else parts
