"""Value sets and branches of any size in a search: what is stored and what they name, whichever is the smaller side.

Few codes are sent as they are. Of many, those that the index holds are found by leaping: the next entry from a code on,
then the next code from that entry on, and so forth; the steps are at most twice the codes in use, whatever the set.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from fhir_server.store.find.search import Search, resource_of
from fhir_server.store.find.trees import one
from search.clauses import NEVER, Among, Clause, Coded, OneOf, after
from search.filters import KEY
from search.types.token import coded_texts
from terminology.content import by_id

if TYPE_CHECKING:
    from fhir_server.store.find.links import Links

# As many are sent in one query (docs/security.md).
MOST_SENT = 1_000
# So many steps (0.3 ms each) at most; where more codes are in use, candidates are asked about one by one.
MOST_STEPS = 4_000
# Documents looked at in one step, and leaps at a time.
STEP = 16
LANES = 4


class Pairs(list[tuple[str, str]]):
    """(system, code) of what a search names, with the entries that were made of them, for the next search."""

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        super().__init__(pairs)
        self._texts: dict[Coded, tuple[str, ...]] = {}

    def texts(self, clause: Coded) -> tuple[str, ...]:
        """The sorted entries."""
        if clause not in self._texts:
            self._texts[clause] = coded_texts(clause, self)
        return self._texts[clause]


async def named(search: Search, clause: Coded, pairs: Sequence[tuple[str, str]], few: bool) -> Clause:
    """The clause that the pairs mean; `few` where the other conditions leave few candidates."""
    texts = pairs.texts(clause) if isinstance(pairs, Pairs) else coded_texts(clause, pairs)
    if len(texts) <= MOST_SENT:
        return OneOf(texts) if texts else NEVER
    used = None if few else await _in_use(search, texts)
    if used is None:
        return Among(tuple(dict.fromkeys((*clause.keys, *(key for key, _ in clause.bare)))), frozenset(texts))
    return OneOf(tuple(used)) if used else NEVER


async def url_of(links: Links, clause: Coded) -> str:
    """What a search names, where a value set is named by its place: `ValueSet/x` as its canonical url.

    A reference is literal where it can be (http://hl7.org/fhir/R4/search.html#token), so what is stored comes first.
    """
    kind, _, id_ = clause.value.partition("/")
    if clause.how != "in" or kind != "ValueSet":
        return clause.value
    row = await one(links, kind, clause.value)
    if row is None:
        url, version = by_id(kind).get(id_, (clause.value, None))
    else:
        resource = await resource_of(links.search, row)
        url, version = resource.get("url", clause.value), resource.get("version")
    return f"{url}|{version}" if version else url


async def _in_use(search: Search, texts: tuple[str, ...]) -> list[str] | None:
    """Those of the sorted texts that are stored; None where finding them takes too many steps."""
    steps = [MOST_STEPS]
    found = await asyncio.gather(*(_leap(search, lane, steps) for lane in _lanes(texts)))
    return None if steps[0] <= 0 else [text for part in found for text in part]


def _lanes(texts: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The texts of each key in equal parts."""
    start = 0
    while start < len(texts):
        end = bisect_left(texts, after(texts[start][:KEY]), start)
        size = -(-(end - start) // LANES)
        yield from (texts[at : min(at + size, end)] for at in range(start, end, size))
        start = end


async def _leap(search: Search, texts: tuple[str, ...], steps: list[int]) -> list[str]:
    found: list[str] = []
    at, last = 0, texts[-1]
    while at < len(texts) and steps[0] > 0:
        steps[0] -= 1
        stored = await _next(search, texts[at], last)
        if not stored:
            break
        found += [text for text in stored if (near := bisect_left(texts, text)) < len(texts) and texts[near] == text]
        at = bisect_right(texts, stored[-1])
    return found


async def _next(search: Search, first: str, last: str) -> list[str]:
    """The next entries of the index from one text to another, in their order, which is that of the texts."""
    rows = await search.reads.find_documents(
        {"s": {"$elemMatch": {"$gte": first, "$lte": last}}},
        projection={"s": 1},
        limit=STEP,
        hint={"s": 1, "_id": 1},
        max_time_ms=search.remaining(),
    )
    within = [[e for e in row["s"] if first <= e <= last] for row in rows]
    # The walk met each document at its first entry, and has come as far as that of the last document.
    end = min(within[-1]) if within else ""
    return sorted({e for entries in within for e in entries if e <= end})
