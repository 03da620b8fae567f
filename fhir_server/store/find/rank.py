"""`_sort=_score`: matches of a text search, the best first (http://hl7.org/fhir/R4/search.html#text)."""

from __future__ import annotations

from fhir_server.store.find.rows import unsorted_rows
from fhir_server.store.find.search import Search, resource_of
from fhir_server.store.records import Document
from profiles.outcome import FhirError, Issue
from search.page import Position
from search.words import score

# Bodies that are read to be ranked; who has more matches needs another word.
RANKED = 1_000


async def ranked_rows(search: Search, position: Position | None, limit: int) -> list[Document]:
    """The next matches by their score, which ends up in the document; the place in the order is the sort value."""
    words = " ".join(value for name, value in search.query.used if name in ("_text", "_content"))
    if not words:
        raise FhirError("invalid", "_sort: _score needs a search for words, by _text or _content", "http._sort")
    rows = await unsorted_rows(search, None, RANKED)
    if len(rows) == RANKED:
        text = f"Only the first {RANKED:,} matches were ranked; add a word to have fewer."
        search.warnings.append(Issue("warning", "incomplete", text))
    for row in rows:
        row["score"] = score(await resource_of(search, row), words)
    rows.sort(key=lambda row: (-row["score"], row["_id"]))
    for place, row in enumerate(rows):
        row.update({f"k{n}": place for n in range(len(search.query.sort))})
    if position is None:
        return rows[:limit]
    at = int(position.values[0])
    return rows[max(0, at - limit) : at][::-1] if position.backward else rows[at + 1 : at + 1 + limit]
