"""The answer to a search as NDJSON: a resource a line, as the Bundle holds it (https://github.com/ndjson/ndjson-spec)."""

from __future__ import annotations

from urllib.parse import quote

import msgspec


class Entry(msgspec.Struct):
    """An entry, its resource as the text it is."""

    resource: msgspec.Raw = msgspec.Raw()


class Answer(msgspec.Struct):
    """What is needed of the answer; the rest is skipped, not built."""

    resourceType: str = ""
    link: list[dict[str, str]] = []
    entry: list[Entry] = []


_READ = msgspec.json.Decoder(Answer).decode


def lines(body: bytes) -> bytes:
    """Matches, what was included, and last what there is to say about the search; each is one line."""
    answer = _READ(body)
    if answer.resourceType != "Bundle":
        return body + b"\n"
    return b"".join(b"%b\n" % bytes(row.resource) for row in answer.entry)


def link(body: bytes) -> dict[str, str]:
    """The header that leads to the next page (RFC 8288)."""
    urls = [row["url"] for row in _READ(body).link if row["relation"] == "next"]
    return {"Link": f'<{quote(urls[0], safe=":/?&=%")}&_format=ndjson>; rel="next"'} if urls else {}
