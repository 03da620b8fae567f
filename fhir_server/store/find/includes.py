"""`_include` and `_revinclude` (http://hl7.org/fhir/R4/search.html#revinclude): found by entries alone."""

from __future__ import annotations

from collections.abc import Iterable

from fhir_server.store.find.links import Links
from fhir_server.store.find.references import named_by, naming
from fhir_server.store.find.search import Search, filled
from fhir_server.store.find.versions import Asked, as_asked, note
from fhir_server.store.records import Document, Stored, stored_of
from profiles.outcome import Issue
from search.clauses import NEVER, Clause, Ids, Kinds, OneOf, every, some
from search.filters import compile, widened
from search.params import TYPE_CODES, TYPE_OF_CODE
from search.query import Include

MOST = 1_000


async def included(search: Search, rows: list[Document]) -> list[Stored]:
    """What the includes of the query add to the rows, each resource once, at most 1,000."""
    includes = search.query.includes
    if not includes or not rows:
        return []
    seen = {row["_id"] for row in rows}
    found: list[Document] = []
    fresh, wanted = rows, list(includes)
    versions: Asked = {}
    while fresh and wanted and len(found) <= MOST:  # a cycle ends, since nothing is sent twice
        more = [row for row in await _round(search, wanted, fresh, versions) if row["_id"] not in seen]
        fresh = list({row["_id"]: row for row in more}.values())
        found += fresh
        seen.update(row["_id"] for row in fresh)
        wanted = [i for i in includes if i.iterate]
    if len(found) > MOST:
        text = f"More than {MOST:,} resources would be included; the rest were left out."
        search.warnings.append(Issue("warning", "incomplete", text))
    shown = await as_asked(search, found[:MOST], versions)
    return await filled(search, [stored_of(row) for row in shown])


async def _round(search: Search, includes: list[Include], rows: list[Document], versions: Asked) -> list[Document]:
    forward: set[str] = set()
    canonical: dict[str, set[str]] = {}
    found: list[Document] = []
    for include in includes:
        if include.reverse:
            found += await _reverse(search, include, rows)
        else:
            _collect(search, include, rows, versions, forward, canonical)
    found += await _named(search, forward)
    for target, urls in canonical.items():
        found += await _by_url(search, target, urls)
    return found


def _collect(
    search: Search,
    include: Include,
    rows: Iterable[Document],
    versions: Asked,
    names: set[str],
    canonical: dict[str, set[str]],
) -> None:
    """The names and canonical urls that an include leads to."""
    code = TYPE_CODES[include.source]
    heads: dict[str, tuple[str, ...]] = {}
    for parameter in include.parameters:
        for atom in parameter.atoms:
            targets = (include.target,) if include.target else atom.place.refers or parameter.targets
            heads[atom.key] = (*heads.get(atom.key, ()), *targets)
    for row in rows:
        if row["_id"].partition("/")[0] != include.source or code not in row["s"]:
            continue
        own: set[str] = set()
        for entry in row["s"]:
            targets = heads.get(entry[:5], ("-",))
            if targets != ("-",):
                _add_target(entry[5:], targets, own, canonical)
        note(versions, own)
        names.update(name for name in own if "/_history/" not in name)


def _add_target(text: str, targets: tuple[str, ...], names: set[str], canonical: dict[str, set[str]]) -> None:
    kind = TYPE_OF_CODE.get(text[:2], "")
    if kind and (not targets or "Resource" in targets or kind in targets):
        names.add(f"{kind}/{text[2:]}")
    elif text[:1] == "^" and "|" in text:
        for target in targets:
            canonical.setdefault(target, set()).add(text[1:])


async def _named(search: Search, names: set[str]) -> list[Document]:
    kinds: dict[str, list[str]] = {}
    for name in sorted(names)[: MOST + 1]:
        kinds.setdefault(name.partition("/")[0], []).append(name)
    clauses = [every((Kinds((kind,)), Ids(tuple(found)), _allowed(search, kind))) for kind, found in kinds.items()]
    return await _read(search, some(clauses)) if clauses else []


async def _by_url(search: Search, target: str, urls: set[str]) -> list[Document]:
    """Targets of canonical references: the url, and the version where one is named."""
    named = named_by(search.registry, target, urls) if target in TYPE_CODES else NEVER
    if named == NEVER:
        return []
    return await _read(search, every((Kinds((target,)), named, _allowed(search, target))))


async def _reverse(search: Search, include: Include, rows: list[Document]) -> list[Document]:
    """Resources that refer to the rows."""
    texts: list[str] = []
    for atom in (atom for parameter in include.parameters for atom in parameter.atoms):
        canonical = any(r.type == "canonical" for r in atom.place.routes)
        for row in rows:
            kind, _, id_ = row["_id"].partition("/")
            if include.target in ("", kind) and (not atom.place.refers or kind in atom.place.refers):
                texts.append(f"{atom.key}{TYPE_CODES[kind]}{id_}")
                texts += naming(search.registry, (atom.key,), row) if canonical else ()
    found: list[Document] = []
    for at in range(0, len(texts), MOST):
        clause = OneOf(tuple(texts[at : at + MOST]))
        found += await _read(search, every((clause, _allowed(search, include.source, sought=True))))
    return found


def _allowed(search: Search, type_name: str, *, sought: bool = False) -> Clause:
    return search.access(type_name, sought) if search.access else every(())


async def _read(search: Search, clause: Clause) -> list[Document]:
    links = Links(search)
    clause = await links.resolved(clause)
    rows: list[Document] = await search.reads.find_documents(
        compile(widened(clause)), sort={"_id": 1}, limit=MOST + 1, max_time_ms=search.remaining()
    )
    return await links.fitting(clause, rows)
