"""The chain over the audit trail: links of keyed hashes that show any change, removal or reordering. Pure.

A link is a text: what happened (`told`), the digests of the events that were made of an earlier link (`stored 7`), or
that the beginning of the chain was taken away after its time (`removed 120 HASH`): it then begins after that link.
Its hash covers the text and the hash of the link before. Without the key, which is not in the database, nobody who can
write to the database can make a link that fits.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

START = "0" * 64
TOLD, STORED, REMOVED = b"told", b"stored", b"removed"
# The text of the link after which no key but the one it was made with makes links.
REKEYED = b"rekeyed"


@dataclass(frozen=True, slots=True)
class Link:
    """One link: its number from 1 on, the hash of the link before, its text, its own hash."""

    number: int
    before: str
    text: bytes
    hash: str

    @property
    def lines(self) -> list[bytes]:
        """The lines after the first: one an event."""
        return self.text.split(b"\n")[1:]

    @property
    def of(self) -> int | None:
        """The number of the link whose events' digests these are; None where the link tells what happened."""
        head = self.text.partition(b"\n")[0]
        return int(head.removeprefix(STORED)) if head.startswith(STORED) else None

    @property
    def cut(self) -> Link | None:
        """The last link that was taken away, as far as it is known; None where this is no such anchor."""
        head, *rest = self.text.split(b" ")
        return Link(int(rest[0]), "", b"", rest[1].decode()) if head == REMOVED else None

    @property
    def tells(self) -> bool:
        """Whether the lines of the link are events."""
        return self.text.partition(b"\n")[0] == TOLD


def told(lines: Sequence[bytes]) -> bytes:
    """The text of a link that tells what happened."""
    return b"\n".join((TOLD, *lines))


def stored(number: int, digests: Sequence[str]) -> bytes:
    """The text of a link with the digests of the events of link `number`, in their order."""
    return "\n".join((f"{STORED.decode()} {number}", *digests)).encode()


def removed(last: Link) -> bytes:
    """The text of the link that says: all links up to this one were taken away."""
    return f"{REMOVED.decode()} {last.number} {last.hash}".encode()


def digest(body: bytes) -> str:
    """The digest of an event's stored bytes."""
    return hashlib.sha256(body).hexdigest()


def linked(key: bytes, before: Link | None, text: bytes) -> Link:
    """The link after `before` with this text."""
    number, last = (before.number + 1, before.hash) if before else (1, START)
    return Link(number, last, text, _hash(key, number, last, text))


def _hash(key: bytes, number: int, before: str, text: bytes) -> str:
    return hmac.digest(key, f"{number} {before}\n".encode() + text, "sha256").hex()


def fits(key: bytes, link: Link) -> bool:
    """Whether a link was made with the key."""
    return link.hash == _hash(key, link.number, link.before, link.text)


class Proof:
    """What is wrong with the links themselves, page by page; the keys are those of the chain, the oldest first."""

    def __init__(self, keys: Sequence[bytes], after: Link | None = None) -> None:
        self._keys = list(keys)
        self._number, self._before = (after.number, after.hash) if after else (0, START)

    def faults(self, links: Iterable[Link]) -> Iterator[str]:
        """A gap, a wrong order, a hash that does not fit, or fits a key whose time is over."""
        for link in links:
            if link.number != self._number + 1:
                yield f"links {self._number + 1} to {link.number - 1} are missing"
            elif link.before != self._before:
                yield f"link {link.number} does not follow the link before it"
            own = next((number for number, key in enumerate(self._keys) if fits(key, link)), None)
            if own is None:
                yield f"link {link.number} was changed"
            elif link.text == REKEYED:
                self._keys = self._keys[own:]
            self._number, self._before = link.number, link.hash


def event_faults(expected: Iterable[tuple[str, str]], found: dict[str, str]) -> Iterator[str]:
    """What is wrong with stored events: (id, digest) as they should be, and the digests of those that are there."""
    for identity, wanted in expected:
        if identity not in found:
            yield f"AuditEvent/{identity} was removed"
        elif found[identity] != wanted:
            yield f"AuditEvent/{identity} was changed"
