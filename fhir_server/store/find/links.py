"""Chains and `_has`: the smaller side is looked up first, and no unbounded list of ids goes into a query.

A side with few resources becomes a list of entries or names. A larger one is left in the clause and asked about the
candidates of each batch.
"""

from __future__ import annotations

from collections.abc import Callable

from fhir_server.store.find.codes import named
from fhir_server.store.find.search import Search, resource_of
from fhir_server.store.records import Document
from profiles.outcome import FhirError
from search.clauses import (
    ALWAYS,
    NEVER,
    Body,
    Chain,
    Clause,
    Coded,
    Every,
    Has,
    Ids,
    Kinds,
    Listed,
    OneOf,
    Some,
    Without,
    every,
    some,
    walk,
    without,
)
from search.filters import compile, is_seen, widened
from search.matches import Subject, matches
from search.params import TYPE_CODES
from search.plan import candidates
from search.query import placed
from search.types.reference import PART_OF

# As many as go into one query (docs/security.md: 1,000 values); beyond, the other side is the smaller one.
MOST = 1_000
# Bodies read to settle one alternative of a clause.
MOST_READ = 200
# Documents read to learn to whom they refer.
MOST_SOURCES = 5_000

Linked = Callable[[Clause, Subject], bool]


class Links:
    """What other resources decide, for one search."""

    def __init__(self, search: Search) -> None:
        self.search = search
        self.few = False  # the candidates are so few that links are looked up from them

    async def resolved(self, clause: Clause) -> Clause:
        """The clause with small sides written out."""
        if isinstance(clause, Every):
            return every([await self.resolved(c) for c in clause.clauses])
        if isinstance(clause, Some):
            return some([await self._settled(await self.resolved(c)) for c in clause.clauses])
        if isinstance(clause, Without):
            return without(await self.resolved(clause.clause))
        if isinstance(clause, Chain):
            return await self._chain(clause)
        if isinstance(clause, Has):
            return await self._has(clause)
        if isinstance(clause, Coded):
            return await self._coded(clause)
        if isinstance(clause, Listed):
            return await self._listed(clause)
        return clause

    async def _settled(self, clause: Clause) -> Clause:
        """An alternative that needs bodies, as names, where its entries leave few: a long text that was cut."""
        if not isinstance(clause, Every) or not any(isinstance(c, Body) for c in clause.clauses):
            return clause
        wide = widened(clause)
        if not candidates(wide) or is_seen(clause) or any(isinstance(c, Chain | Has) for c in walk(clause)):
            return clause
        rows = await self.search.reads.find_documents(
            compile(wide), limit=MOST_READ + 1, max_time_ms=self.search.remaining()
        )
        if len(rows) > MOST_READ:
            return clause
        fitting = [r["_id"] for r in rows if matches(clause, r["s"], await resource_of(self.search, r))]
        return Ids(tuple(fitting)) if fitting else NEVER

    async def _coded(self, clause: Coded) -> Clause:
        """The codes that terminology names, as entries."""
        if self.search.terms is None:
            raise FhirError("not-supported", f":{clause.how} needs terminology, which this server runs without")
        try:
            pairs = await self.search.terms(clause.how, clause.value)
        except FhirError as error:
            raise placed(error, clause.name) if error.status < 500 else error from None
        return await named(self.search, clause, pairs, self.few)

    async def _listed(self, clause: Listed) -> Clause:
        """The items of a List as names, or what lies above or below in a tree as entries."""
        if clause.how == "list":
            row = await self._one("List", clause.value)
            items = self.search.registry.lookup("List", "item")
            kinds = [clause.target] if clause.target else sorted(TYPE_CODES)
            found = [n for kind in kinds for n in _referred(row, items.keys, kind)] if row and items else []
            return Ids(tuple(sorted(set(found)))) if found else NEVER
        names = await self._tree(clause)
        code = TYPE_CODES[clause.target]
        return OneOf(tuple(f"{k}{code}{n.partition('/')[2]}" for k in clause.keys for n in names))

    async def _one(self, kind: str, name: str) -> Document | None:
        clause = await self.resolved(every((Kinds((kind,)), Ids((name,)), self._allowed(kind))))
        rows = await self._checked(clause)
        return rows[0] if rows else None

    async def _tree(self, clause: Listed) -> list[str]:
        """The resource and what lies above or below it, each once, however the tree is knotted."""
        parent = self.search.registry.lookup(clause.target, PART_OF[clause.target])
        assert parent is not None
        seen, edge = {clause.value: None}, [clause.value]
        code = TYPE_CODES[clause.target]
        while edge:
            if clause.how == "below":
                texts = tuple(f"{k}{code}{n.partition('/')[2]}" for k in parent.keys for n in edge)
                step: Clause = OneOf(texts)
            else:
                step = Ids(tuple(edge))
            allowed = await self.resolved(every((Kinds((clause.target,)), step, self._allowed(clause.target))))
            rows = await self._checked(allowed)
            names = [r["_id"] for r in rows] if clause.how == "below" else _above(rows, parent.keys, clause.target)
            edge = [n for n in dict.fromkeys(names) if n not in seen]
            seen.update(dict.fromkeys(edge))
            if len(seen) > MOST:
                raise FhirError(
                    "too-costly", f":{clause.how}: more than {MOST:,} resources {clause.how} {clause.value}"
                )
        return list(seen)

    def _allowed(self, type_name: str) -> Clause:
        return self.search.access(type_name) if self.search.access else ALWAYS

    async def _chain(self, chain: Chain) -> Clause:
        where = await self.resolved(every((Kinds((chain.target,)), chain.where, self._allowed(chain.target))))
        if where == NEVER:
            return NEVER
        if self.few:
            return Chain(chain.keys, chain.target, where, chain.how)
        rows = await self._targets(where, MOST + 1)
        if rows is None or len(rows) > MOST:
            return Chain(chain.keys, chain.target, where, chain.how)
        return some([self._reaching(chain, row) for row in rows])

    async def _targets(self, where: Clause, limit: int) -> list[Document] | None:
        """Names (and urls) of what the inner side finds; None when only candidates can be checked."""
        if not is_seen(where):
            return None
        rows: list[Document] = await self.search.reads.find_documents(
            compile(where), projection={"s": 1}, limit=limit, max_time_ms=self.search.remaining()
        )
        return rows

    def _reaching(self, chain: Chain, row: Document) -> Clause:
        """The entries that refer to a target."""
        if chain.how == "reference":
            code, id_ = TYPE_CODES[chain.target], row["_id"].partition("/")[2]
            return OneOf(tuple(f"{key}{code}{id_}" for key in chain.keys))
        return some(self._canonical(chain, url, version) for url, version in self._urls(chain.target, row))

    def _canonical(self, chain: Chain, url: str, version: str) -> Clause:
        versions = ("", version) if version else ("",)
        return OneOf(tuple(f"{key}^{url}|{v}" for key in chain.keys for v in versions))

    def _urls(self, target: str, row: Document) -> list[tuple[str, str]]:
        """(url, version) of a resource, from its entries."""
        url = self.search.registry.lookup(target, "url")
        version = self.search.registry.lookup(target, "version")
        if url is None:
            return []
        versions = [e[5:].partition("|")[0] for e in row["s"] if version and e.startswith(version.key)]
        return [(e[5:], versions[0] if versions else "") for e in row["s"] if e.startswith(url.key)]

    async def _has(self, has: Has) -> Clause:
        where = await self.resolved(every((Kinds((has.source,)), has.where, self._allowed(has.source))))
        if where == NEVER:
            return NEVER
        wide = Has(has.keys, has.source, has.own_types, where)
        if self.few or not is_seen(where):
            return wide
        rows = await self.search.reads.find_documents(
            compile(where), projection={"s": 1}, limit=MOST_SOURCES + 1, max_time_ms=self.search.remaining()
        )
        names = {name for row in rows for name in _referred(row, has.keys, *has.own_types)}
        return wide if len(rows) > MOST_SOURCES or len(names) > MOST else Ids(tuple(sorted(names))) if names else NEVER

    async def for_rows(self, clause: Clause, rows: list[Document]) -> Linked:
        """Answers for the links left in a clause, about these rows."""
        known: dict[Clause, set[str]] = {}
        for part in walk(clause):
            if isinstance(part, Chain) and part not in known:
                known[part] = await self._reached(part, rows)
            elif isinstance(part, Has) and part not in known:
                known[part] = await self._referring(part, rows)

        def linked(part: Clause, subject: Subject) -> bool:
            if isinstance(part, Has):
                return f"{subject.resource['resourceType']}/{subject.resource['id']}" in known[part]
            return not known[part].isdisjoint(subject.entries)

        return linked

    async def _reached(self, chain: Chain, rows: list[Document]) -> set[str]:
        """The entries of the rows that lead to a target for which the chain holds."""
        if chain.how == "canonical":
            return await self._reached_by_url(chain, rows)
        code = TYPE_CODES[chain.target]
        heads = {key + code: key for key in chain.keys}
        ids = {e[7:] for row in rows for e in row["s"] if e[:7] in heads}
        found = await self._holding(chain.where, [f"{chain.target}/{i}" for i in sorted(ids)])
        return {head + name.partition("/")[2] for head in heads for name in found}

    async def _reached_by_url(self, chain: Chain, rows: list[Document]) -> set[str]:
        url = self.search.registry.lookup(chain.target, "url")
        heads = tuple(f"{key}^" for key in chain.keys)
        urls = sorted({e[6:].partition("|")[0] for row in rows for e in row["s"] if e.startswith(heads)})
        if url is None or not urls:
            return set()
        targets = await self._checked(every((OneOf(tuple(url.key + u for u in urls[:MOST])), chain.where)))
        texts = [self._reaching(chain, row) for row in targets]
        return {t for clause in texts if isinstance(clause, OneOf) for t in clause.texts}

    async def _holding(self, where: Clause, names: list[str]) -> set[str]:
        found: set[str] = set()
        for at in range(0, len(names), MOST):
            clause = every((Ids(tuple(names[at : at + MOST])), where))
            found.update(row["_id"] for row in await self._checked(clause))
        return found

    async def _checked(self, clause: Clause) -> list[Document]:
        """All documents of a bounded clause, its own links and bodies looked at too."""
        rows: list[Document] = await self.search.reads.find_documents(
            compile(widened(clause)), max_time_ms=self.search.remaining()
        )
        if is_seen(clause):
            return rows
        linked = await self.for_rows(clause, rows)
        return [row for row in rows if matches(clause, row["s"], await resource_of(self.search, row), linked)]

    async def _referring(self, has: Has, rows: list[Document]) -> set[str]:
        """The names of the rows that some source refers to."""
        own = [(kind, id_) for row in rows for kind, _, id_ in (row["_id"].partition("/"),) if kind in has.own_types]
        texts = [f"{key}{TYPE_CODES[kind]}{id_}" for key in has.keys for kind, id_ in own]
        found: set[str] = set()
        for at in range(0, len(texts), MOST):
            clause = every((OneOf(tuple(texts[at : at + MOST])), has.where))
            found.update(n for row in await self._checked(clause) for n in _referred(row, has.keys, *has.own_types))
        return found


def _above(rows: list[Document], keys: tuple[str, ...], kind: str) -> list[str]:
    return [name for row in rows for name in _referred(row, keys, kind)]


def _referred(row: Document, keys: tuple[str, ...], *own_types: str) -> list[str]:
    """The names of these types that a document refers to under the keys."""
    heads = {key + TYPE_CODES[kind]: kind for kind in own_types for key in keys}
    return [f"{heads[e[:7]]}/{e[7:]}" for e in row["s"] if e[:7] in heads and "/" not in e[7:]]
