"""Chains and `_has`: the smaller side is looked up first, and no unbounded list of ids goes into a query.

A side with few resources becomes a list of entries or names. A larger one is left in the clause and asked about the
candidates of each batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from fhir_server.store.find.codes import named, url_of
from fhir_server.store.find.references import canonicals, named_by, naming, referred
from fhir_server.store.find.search import Search, resource_of
from fhir_server.store.find.trees import listed
from fhir_server.store.records import Document
from fhir_server.store.store import Store
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
from search.marks import containing, leaving, unmarked, within
from search.matches import Subject, matches, name_of
from search.params import TYPE_CODES
from search.plan import candidates
from search.query import placed

# As many as go into one query (docs/security.md: 1,000 values); beyond, the other side is the smaller one.
MOST = 1_000
# Bodies read to settle one alternative of a clause.
MOST_READ = 200
# Documents read to learn to whom they refer.
MOST_SOURCES = 5_000

Linked = Callable[[Clause, Subject], bool]


Asked = tuple[str, str, Clause, Clause | None]


class Links:
    """What other resources decide, for one search."""

    def __init__(self, search: Search, few: bool = False) -> None:
        """`few`: the candidates are so few that links are looked up from them."""
        self.search = search
        self.few = few
        # What several chains ask of the same target is looked up once, for the keys of all of them.
        self.ways: dict[Asked, tuple[str, ...]] = {}
        self.seen: dict[tuple[Asked, tuple[str, ...]], tuple[Chain, list[Document] | None]] = {}
        self.known: dict[Clause, Clause] = {}

    def expect(self, clause: Clause) -> None:
        """Note the chains that will be asked about: `encounter.patient` goes by Encounter and EpisodeOfCare."""
        for part in walk(clause):
            if isinstance(part, Chain | Has):
                self.expect(part.where)
            if isinstance(part, Chain) and part.how == "reference":
                asked = _asked(part)
                self.ways[asked] = (*self.ways.get(asked, ()), *part.keys)

    async def resolved(self, clause: Clause, held: bool = False) -> Clause:
        """The clause with small sides written out; `held` says that it is asked of what a resource contains."""
        if isinstance(clause, Every):
            return every([await self.resolved(c, held) for c in clause.clauses])
        if isinstance(clause, Some):
            found = [await self.resolved(c, held) for c in clause.clauses]
            return some(found if held else [await self._settled(c) for c in found])
        if isinstance(clause, Without):
            return without(await self.resolved(clause.clause, held))
        if isinstance(clause, Chain):
            return await self._chain(clause, held)
        if held and _of_stored(clause):
            return NEVER
        if isinstance(clause, Has):
            return await self._has(clause)
        return await self._named(clause) if isinstance(clause, Coded | Listed) else clause

    async def _named(self, clause: Coded | Listed) -> Clause:
        if clause not in self.known:
            found = self._coded(clause) if isinstance(clause, Coded) else listed(self, clause)
            self.known[clause] = await found
        return self.known[clause]

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
            pairs = await self.search.terms(clause.how, await url_of(self, clause))
        except FhirError as error:
            raise placed(error, clause.name) if error.status < 500 else error from None
        return await named(self.search, clause, pairs, self.few)

    def allowed(self, type_name: str, *, sought: bool = False) -> Clause:
        return self.search.access(type_name, sought) if self.search.access else ALWAYS

    async def _chain(self, chain: Chain, held: bool) -> Clause:
        asked = _asked(chain)
        expected = self.ways.get(asked, ())
        keys = expected if set(chain.keys).issubset(expected) else chain.keys
        if (asked, keys) not in self.seen:
            self.seen[asked, keys] = await self._looked_up(chain, keys)
        found, rows = self.seen[asked, keys]
        wide = replace(found, keys=chain.keys)
        if rows is None:
            return wide
        targets = [row for row in rows if "v" not in row]
        containers = [row for row in rows if "v" in row]
        if len(targets) > MOST or (len(containers) > MOST_READ and not held):
            return wide
        inside = within(wide) if held else await self._ending_in(within(wide), containers)
        return some([*(self._reaching(chain, row) for row in targets), inside])

    async def _looked_up(self, chain: Chain, keys: tuple[str, ...]) -> tuple[Chain, list[Document] | None]:
        """A chain with what it asks of its target, resolved, and with access; and what is there, where that is few."""
        inner = await self.resolved(chain.where)
        inside = None if chain.inside is None else await self.resolved(chain.inside, held=True)
        where = every((Kinds((chain.target,)), inner, await self.resolved(self.allowed(chain.target))))
        wide = replace(chain, keys=keys, where=where, inside=inside)
        if where == NEVER and within(wide) == NEVER:
            return wide, []
        if self.few or chain.how == "followed" or not is_seen(where):
            return wide, None
        return wide, await self._targets(wide)

    async def _ending_in(self, chain: Clause, containers: list[Document]) -> Clause:
        """The names of those in which the chain ends."""
        found = [row["_id"] for row in await self.fitting(chain, containers)] if containers else []
        return Ids(tuple(found)) if found else NEVER

    async def _targets(self, chain: Chain) -> list[Document]:
        """Names and entries of what the inner side finds; whole documents of what may contain such."""
        reads, left = self.search.reads, self.search.remaining()
        wanted, inside = compile(chain.where), containing(chain)
        around = compile(widened(inside))
        # A transaction of the database takes no $unionWith.
        if inside != NEVER and isinstance(self.search.source, Store):
            stages = [{"$match": around}, {"$limit": MOST_READ + 1}]
            both = [
                {"$match": wanted},
                {"$limit": MOST + 1},
                {"$project": {"s": 1}},
                {"$unionWith": {"coll": "resources", "pipeline": stages}},
            ]
            found: list[Document] = await reads.aggregate(both, max_time_ms=left)
            return found
        found = await reads.find_documents(wanted, projection={"s": 1}, limit=MOST + 1, max_time_ms=left)
        if inside != NEVER:
            found += await reads.find_documents(around, limit=MOST_READ + 1, max_time_ms=left)
        return found

    def _reaching(self, chain: Chain, row: Document) -> Clause:
        """The entries that refer to a target."""
        if chain.how == "reference":
            code, id_ = TYPE_CODES[chain.target], row["_id"].partition("/")[2]
            return OneOf(tuple(f"{key}{code}{id_}" for key in chain.keys))
        texts = naming(self.search.registry, chain.keys, row)
        return OneOf(texts) if texts else NEVER

    async def _has(self, has: Has) -> Clause:
        where = await self.resolved(every((Kinds((has.source,)), has.where, self.allowed(has.source, sought=True))))
        if where == NEVER:
            return NEVER
        wide = replace(has, where=where)
        if self.few or not is_seen(where):
            return wide
        rows = await self.search.reads.find_documents(
            compile(where), projection={"s": 1}, limit=MOST_SOURCES + 1, max_time_ms=self.search.remaining()
        )
        if has.how == "canonical":
            texts = {text for row in rows for text in canonicals(row, has.keys)}
            return wide if len(rows) > MOST_SOURCES or len(texts) > MOST else self._named_by(has, texts)
        names = {name for row in rows for name in referred(row, has.keys, *has.own_types)}
        return wide if len(rows) > MOST_SOURCES or len(names) > MOST else Ids(tuple(sorted(names))) if names else NEVER

    def _named_by(self, has: Has, texts: set[str]) -> Clause:
        registry = self.search.registry
        return some(every((Kinds((kind,)), named_by(registry, kind, texts))) for kind in has.own_types)

    async def _for_rows(self, clause: Clause, rows: list[Document]) -> Linked:
        """Answers for the links left in a clause, about these rows."""
        known: dict[Clause, set[str]] = {}
        for part in walk(clause):
            if isinstance(part, Chain) and part.where != NEVER and part not in known:
                known[part] = await self._reached(part, rows)
            elif isinstance(part, Has) and part not in known:
                known[part] = await self._referring(part, rows)
        for chain in dict.fromkeys(leaving(clause)):
            known[chain] = await self._reached(chain, [{"s": unmarked(row["s"])} for row in rows])

        def linked(part: Clause, subject: Subject) -> bool:
            if isinstance(part, Has):
                return name_of(subject.resource) in known[part]
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
        found: set[str] = set()
        for at in range(0, len(urls), MOST):
            named = OneOf(tuple(url.key + u for u in urls[at : at + MOST]))
            texts = [self._reaching(chain, row) for row in await self.checked(every((named, chain.where)))]
            found.update(t for clause in texts if isinstance(clause, OneOf) for t in clause.texts)
        return found

    async def _holding(self, where: Clause, names: list[str]) -> set[str]:
        found: set[str] = set()
        for at in range(0, len(names), MOST):
            clause = every((Ids(tuple(names[at : at + MOST])), where))
            found.update(row["_id"] for row in await self.checked(clause))
        return found

    async def checked(self, clause: Clause) -> list[Document]:
        """All documents of a bounded clause, its own links and bodies looked at too."""
        rows: list[Document] = await self.search.reads.find_documents(
            compile(widened(clause)), max_time_ms=self.search.remaining()
        )
        return await self.fitting(clause, rows)

    async def fitting(self, clause: Clause, rows: list[Document]) -> list[Document]:
        """Those of the candidates for which the whole clause holds."""
        if is_seen(clause):
            return rows
        linked = await self._for_rows(clause, rows)
        return [row for row in rows if matches(clause, row["s"], await resource_of(self.search, row), linked)]

    async def _referring(self, has: Has, rows: list[Document]) -> set[str]:
        """The names of the rows that some source refers to."""
        names: dict[str, set[str]] = {}  # by the entries that refer to them
        for row in rows:
            if row["_id"].partition("/")[0] in has.own_types:
                for text in self._texts(has, row):
                    names.setdefault(text, set()).add(row["_id"])
        texts, found = list(names), set[str]()
        for at in range(0, len(texts), MOST):
            clause = every((OneOf(tuple(texts[at : at + MOST])), has.where))
            found.update(*(names.get(entry, ()) for row in await self.checked(clause) for entry in row["s"]))
        return found

    def _texts(self, has: Has, row: Document) -> tuple[str, ...]:
        """The entries of what refers to a row."""
        if has.how == "canonical":
            return naming(self.search.registry, has.keys, row)
        kind, _, id_ = row["_id"].partition("/")
        return tuple(f"{key}{TYPE_CODES[kind]}{id_}" for key in has.keys)


def _asked(chain: Chain) -> Asked:
    return chain.how, chain.target, chain.where, chain.inside


def _of_stored(clause: Clause) -> bool:
    """Whether only what is stored by itself can be meant: nothing outside refers to something contained."""
    return isinstance(clause, Has) or (isinstance(clause, Listed) and clause.how == "list")
