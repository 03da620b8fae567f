"""Code systems, value sets and concept maps that clients stored: read anew for each request, parsed once a version.

A changed definition so takes effect at once in every worker. Requests that arrive together share the query.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from pymongo.errors import DuplicateKeyError

from fhir_server.store.batches import Batches
from fhir_server.store.errors import told
from fhir_server.store.find.codes import Pairs
from fhir_server.store.store import Store
from fhir_server.store.term_files import TermFiles
from fhir_server.store.transaction import Transaction
from profiles.json import decode
from profiles.outcome import FhirError
from search.params import Registry
from search.texts import cut
from terminology.codes import search_codes
from terminology.content import shipped
from terminology.library import Library, Loose
from terminology.maps import Map
from terminology.systems import System
from terminology.versions import latest

T = TypeVar("T")
Key = tuple[str, str]
Json = dict[str, Any]
# What there is of a url: resources with their versions, and packed tables by their digests.
Names = tuple[tuple[str, int], ...]

KINDS = ("CodeSystem", "ValueSet", "ConceptMap")
# The url that stands for every resource of a kind.
ALL = "*"
# Parsed definitions that are kept; most servers have fewer.
_KEPT = 512
# Codes of value sets and branches that are kept for the next search: 100 bytes each.
_KEPT_CODES = 200_000
# Answers that are kept (1,000 take 2 MB), each of so many bytes at most: an EHR asks for the same codes all day.
_KEPT_ANSWERS, _SMALL = 1_000, 4_096
_KEPT_LIBRARIES = 64
# A definition that refers to ever more others ends here.
_MOST_ROUNDS = 200


# What was looked up: under which names, and the definitions themselves.
Found = dict[Key, tuple[Names, Loose]]


_NOTHING = Loose(())


class Missing(Exception):
    """A definition that has not been looked up for this request."""

    def __init__(self, key: Key) -> None:
        super().__init__(key)
        self.key = key


class Fetched:
    """The layer of stored definitions, as far as they were looked up."""

    def __init__(self, found: Found) -> None:
        self._found = found

    def _of(self, kind: str, url: str) -> Loose:
        if (kind, url) not in self._found:
            raise Missing((kind, url))
        return self._found[kind, url][1]

    def versions(self, kind: str, url: str) -> Sequence[str | None]:
        """The versions that are stored."""
        return self._of(kind, url).versions(kind, url)

    def newest(self, kind: str, url: str, versions: Sequence[str | None]) -> str | None:
        """The greatest version."""
        return latest(versions)

    def system(self, url: str, version: str | None) -> System | None:
        """A stored code system."""
        return self._of("CodeSystem", url).system(url, version)

    def resource(self, kind: str, url: str, version: str | None) -> Json | None:
        """A stored definition."""
        return self._of(kind, url).resource(kind, url, version)

    def concept_map(self, url: str, version: str | None) -> Map | None:
        """A stored concept map."""
        return self._of("ConceptMap", url).concept_map(url, version)

    def maps(self) -> Iterator[Map]:
        """All stored concept maps."""
        return self._of("ConceptMap", ALL).maps()

    def urls(self, kind: str) -> Iterable[str]:
        """All urls of a kind."""
        return self._of(kind, ALL).urls(kind)


class Terms:
    """The terminology of one database."""

    def __init__(self, store: Store, registry: Registry) -> None:
        self._store = store
        self._keys = {kind: _url_key(registry, kind) for kind in KINDS}
        # Rows of packed tables by their digests; they are few.
        self._tables: dict[str, Json] = {}
        self._loose: OrderedDict[Key, tuple[Names, Loose]] = OrderedDict()
        # The codes of value sets and branches, with what they rest on.
        self._named: OrderedDict[tuple[str, str], tuple[dict[Key, Names], Pairs]] = OrderedDict()
        # Answers with what they rest on.
        self._answers: OrderedDict[Hashable, tuple[dict[Key, Names], bytes]] = OrderedDict()
        # What was looked up together, as it is asked for again and again; a library keeps what it has resolved.
        self._libraries: OrderedDict[Hashable, Library] = OrderedDict()
        self._lookups = Batches(self._look_up, size=128, lanes=2)
        self.files = TermFiles(store.driver)

    async def close(self) -> None:
        """Answer what is queued."""
        await self._lookups.close()

    async def ask(self, work: Callable[[Library], T], likely: Iterable[Key] = ()) -> T:
        """The answer of `work`, which is called again whenever it needs a definition that was not looked up yet."""
        return await self._asked(work, {}, likely)

    async def answered(self, same: Hashable, work: Callable[[Library], bytes], likely: Iterable[Key]) -> bytes:
        """The answer of `work`, or that to the `same` question while every definition it rests on is the same."""
        held = self._answers.get(same)
        if held is not None and await self._names(held[0]) == list(held[0].values()):
            # Others may have pushed it out meanwhile.
            self._answers[same] = held
            self._answers.move_to_end(same)
            return held[1]
        found: Found = {}
        body = await self._asked(work, found, likely)
        if len(body) <= _SMALL:
            self._answers[same] = {key: names for key, (names, _) in found.items()}, body
            while len(self._answers) > _KEPT_ANSWERS:
                self._answers.popitem(last=False)
        return body

    async def _asked(self, work: Callable[[Library], T], found: Found, likely: Iterable[Key]) -> T:
        """The same; `found` tells afterwards what the answer rests on."""
        await self.look_up(found, likely)
        for _ in range(_MOST_ROUNDS):
            try:
                return work(self.library(found))
            except Missing as missing:
                await self.look_up(found, [missing.key])
        return work(self.library(found))

    async def listed(self, work: Callable[[Library], T]) -> T:
        """The answer of `work` on all code systems at once, for a list of them."""
        names = await self._lookups(("CodeSystem", ALL))
        layer = await self._loaded(("CodeSystem", ALL), names)
        return work(Library((layer, shipped())))

    def library(self, found: Found) -> Library:
        """The terminology as far as it was looked up; it raises Missing for the rest."""
        same = tuple([(key, names) for key, (names, _) in found.items()])
        kept = self._libraries.get(same)
        if kept is not None:
            self._libraries.move_to_end(same)
            return kept
        made = self._libraries[same] = Library((Fetched(found.copy()), shipped()))
        while len(self._libraries) > _KEPT_LIBRARIES:
            self._libraries.popitem(last=False)
        return made

    async def look_up(self, found: Found, keys: Iterable[Key]) -> None:
        """Look up what is stored under these urls, all in one query."""
        wanted = [key for key in dict.fromkeys(keys) if key not in found]
        for key, names in zip(wanted, await self._names(wanted), strict=True):
            found[key] = names, await self._loaded(key, names)

    async def _names(self, keys: Iterable[Key]) -> list[Names]:
        """What is stored under each of the keys, all asked for at once."""
        return [await found for found in [self._lookups(key) for key in keys]]

    async def _loaded(self, key: Key, names: Names) -> Loose:
        """The definitions as a layer; the same versions give the same layer, with what it has indexed."""
        if not names:
            return _NOTHING
        kept = self._loose.get(key)
        if kept is not None and kept[0] == names:
            self._loose.move_to_end(key)
            return kept[1]
        resources = await asyncio.gather(*(self._read(name, version) for name, version in names if version))
        systems = [await self.files.system(self._tables[name]) for name, version in names if not version]
        layer = Loose((r for r in resources if r is not None), systems)
        self._loose[key] = (names, layer)
        while len(self._loose) > _KEPT:
            self._loose.popitem(last=False)
        return layer

    async def _read(self, name: str, version: int) -> Json | None:
        kind, _, id_ = name.partition("/")
        stored = await self._store.get(kind, id_)
        if stored is None or stored.body is None:
            return None
        found: Json = decode(stored.body)
        return found

    async def _look_up(self, keys: list[Key]) -> list[Names]:
        """Names and versions of what is stored with each url; requests that arrive together ask for the same ones."""
        found: dict[Key, list[tuple[str, int]]] = {key: [] for key in keys}
        await self._named_ones([key for key in found if key[1] != ALL], found)
        for kind, _ in [key for key in found if key[1] == ALL]:
            await self._every(kind, found[kind, ALL])
        names = {key: tuple(sorted(rows)) for key, rows in found.items()}
        return [names[key] for key in keys]

    async def _named_ones(self, keys: list[Key], found: dict[Key, list[tuple[str, int]]]) -> None:
        """Stored resources and packed tables with these urls, in one query."""
        if not keys:
            return
        entries = {f"{self._keys[kind]}{cut(url)}": (kind, url) for kind, url in keys}
        within = list(entries)
        # Of the entries only the one asked for: a definition may have 100,000.
        own = {"$filter": {"input": "$s", "cond": {"$in": ["$$this", within]}}}
        stages: list[Json] = [{"$match": {"s": {"$in": within}}}, {"$project": {"v": 1, "s": own}}]
        stages += self.files.beside([url for kind, url in keys if kind == "CodeSystem"])
        for row in await self._store.reads.aggregate(stages):
            if "versions" in row:
                url = self.files.url(row)
                found["CodeSystem", url] += self._noted(row["versions"])
            for entry in row.get("s", ()):
                key = entries[entry]
                if row["_id"].startswith(f"{key[0]}/"):
                    found[key].append((row["_id"], row["v"]))

    async def _every(self, kind: str, found: list[tuple[str, int]]) -> None:
        """All stored resources of a kind, and all packed tables."""
        rows = await self._rows({"_id": {"$gte": f"{kind}/", "$lt": f"{kind}0"}}, {"$slice": 1})
        found += [(r["_id"], r["v"]) for r in rows if "s" in r]
        if kind == "CodeSystem":
            found += self._noted(await self.files.every())

    def _noted(self, rows: list[Json]) -> list[tuple[str, int]]:
        """Packed tables by their digests."""
        self._tables |= {row["name"]: row for row in rows}
        return [(row["name"], 0) for row in rows]

    async def _rows(self, filter: Json, entries: Json) -> list[Json]:
        rows = await self._store.reads.find_documents(filter, projection={"_id": 1, "v": 1, "s": entries})
        return [dict(row) for row in rows]

    async def state(self, kind: str, name: str) -> Json | None:
        """A record that an operation keeps between calls."""
        with told():
            found = await self._store.driver.send(self._store.driver.state.find_one, {"_id": f"{kind}/{name}"})
        return dict(found["record"]) if found else None

    async def keep(self, kind: str, name: str, record: Json, before: Json | None) -> bool:
        """Keep a record in place of the one that was read; False where another worker was faster."""
        where = {"_id": f"{kind}/{name}"} | ({"record.version": before["version"]} if before else {})
        row = {"_id": f"{kind}/{name}", "record": record}
        state = self._store.driver.state
        with told():
            try:
                done = await self._store.driver.send(state.replace_one, where, row, upsert=before is None)
            except DuplicateKeyError:
                return False
        return bool(done.matched_count or done.upserted_id)

    async def codes(self, how: str, value: str) -> Pairs:
        """(system, code) of what `:in`, `:below` and `:above` name, the same as before if its definitions are."""
        held = self._named.get((how, value))
        if held is not None and await self._names(held[0]) == list(held[0].values()):
            self._named[how, value] = held
            self._named.move_to_end((how, value))
            return held[1]
        found: Found = {}
        codes = await self._asked(lambda library: search_codes(library, how, value), found, ())
        pairs = Pairs((url, code) for url in codes for code in codes[url])
        self._named[how, value] = {key: names for key, (names, _) in found.items()}, pairs
        while len(self._named) > 1 and sum(len(kept) for _, kept in self._named.values()) > _KEPT_CODES:
            self._named.popitem(last=False)
        return pairs


_TERMS: WeakKeyDictionary[Store, Terms] = WeakKeyDictionary()


def terms_of(store: Store | Transaction, registry: Registry) -> Terms:
    """The terminology of a store, one for each; what a transaction has written is not part of it yet."""
    if not isinstance(store, Store):
        raise FhirError("not-supported", "Terminology operations are sent alone or in a batch, not in a transaction.")
    found = _TERMS.get(store)
    if found is None:
        found = _TERMS[store] = Terms(store, registry)
    return found


def _url_key(registry: Registry, kind: str) -> str:
    parameter = registry.lookup(kind, "url")
    assert parameter is not None
    return parameter.key
