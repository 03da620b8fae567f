"""The chain over the audit trail: links of keyed hashes that show any change, removal or reordering. Pure.

A link covers the ids and digests of a batch of events and the link before it. Without the key, which is not in the
database, nobody who can write to the database can make a link that fits.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

START = "0" * 64
Row = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Link:
    """One link: its number from 1 on, the hash of the link before, the (id, digest) of its events, its own hash."""

    number: int
    before: str
    rows: tuple[Row, ...]
    hash: str


def digest(body: bytes) -> str:
    """The digest of an event's stored bytes."""
    return hashlib.sha256(body).hexdigest()


def linked(key: bytes, before: Link | None, rows: Sequence[Row]) -> Link:
    """The link after `before` for these events."""
    number, last = (before.number + 1, before.hash) if before else (1, START)
    return Link(number, last, tuple(rows), _hash(key, number, last, rows))


def _hash(key: bytes, number: int, before: str, rows: Sequence[Row]) -> str:
    text = json.dumps([number, before, [list(row) for row in rows]], separators=(",", ":"))
    return hmac.digest(key, text.encode(), "sha256").hex()


def faults(key: bytes, links: Iterable[Link], after: Link | None = None) -> Iterator[str]:
    """What is wrong with the links themselves: a gap, a wrong order, a hash that does not fit."""
    number, before = (after.number, after.hash) if after else (0, START)
    for link in links:
        if link.number != number + 1:
            yield f"links {number + 1} to {link.number - 1} are missing"
        elif link.before != before:
            yield f"link {link.number} does not follow the link before it"
        if link.hash != _hash(key, link.number, link.before, link.rows):
            yield f"link {link.number} was changed"
        number, before = link.number, link.hash


def event_faults(rows: Iterable[Row], stored: dict[str, str]) -> Iterator[str]:
    """What is wrong with the events of a link: `stored` has the digests of those that are there, by id."""
    for identity, expected in rows:
        found = stored.get(identity)
        if found is None:
            yield f"AuditEvent/{identity} was removed"
        elif found != expected:
            yield f"AuditEvent/{identity} was changed"
