"""The versions that references name (http://hl7.org/fhir/R4/search.html#versions), for what includes add."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fhir_server.store.find.links import Links
from fhir_server.store.find.search import Search, resource_of
from fhir_server.store.records import Document, version_key
from search.clauses import ALWAYS, Kinds, every
from search.entries import entries
from search.filters import is_seen
from search.matches import matches

# Which versions of a resource are asked for; an empty text is the current one.
Asked = dict[str, set[str]]


def note(asked: Asked, names: Iterable[str]) -> None:
    """Take in what one resource refers to: `Patient/1`, and beside it `Patient/1/_history/2` for a version."""
    found: Asked = {}
    for name in names:
        plain, _, version = name.partition("/_history/")
        found.setdefault(plain, set()).add(version)
    for plain, versions in found.items():
        asked.setdefault(plain, set()).update(versions - {""} or {""})


async def as_asked(search: Search, rows: list[Document], asked: Mapping[str, set[str]]) -> list[Document]:
    """The rows, with superseded versions that were asked for; alone where nothing asks for the current one."""
    keys = [
        version_key(row["_id"], int(version))
        for row in rows
        for version in sorted(asked.get(row["_id"], ()))
        if version.isdigit() and len(version) < 10 and int(version) < row["v"]
    ]
    if not keys:
        return rows
    old = await search.reads.find_documents(
        {"_id": {"$in": keys}}, collection="history", max_time_ms=search.remaining()
    )
    seen: dict[str, list[Document]] = {}
    for row in old:
        if await _is_visible(search, row):
            seen.setdefault(row["r"], []).append(row)
    found: list[Document] = []
    for row in rows:
        versions = seen.get(row["_id"], [])
        alone = versions and not asked[row["_id"]] & {"", str(row["v"])}
        found += versions if alone else [row, *versions]
    return found


async def _is_visible(search: Search, row: Document) -> bool:
    """Whether the caller may see this version: its labels and references may be others than today's."""
    if row["m"] == "DELETE":
        return False
    kind = row["r"].partition("/")[0]
    links = Links(search)
    clause = await links.resolved(every((Kinds((kind,)), search.access(kind) if search.access else ALWAYS)))
    resource = await resource_of(search, row)
    whole = {**row, "_id": row["r"], "s": entries(resource, search.registry)}
    if is_seen(clause):
        return matches(clause, whole["s"], resource)
    return bool(await links.fitting(clause, [whole]))
