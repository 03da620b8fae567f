"""A code system read in place from a packed table (see pack): a look-up takes microseconds and makes no copies."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import overload

import msgspec

from profiles.outcome import FhirError
from terminology.carriers import places
from terminology.concepts import Concept, Json, designation, text_of, value_of
from terminology.pack import ABSTRACT, INACTIVE, MAGIC, slot_of
from terminology.wording import Index, rank, tokens

_AT = tuple(f"{name}_at" for name in ("code", "display", "extra", "parent", "child", "word", "posting"))
# The sections that hold numbers.
NUMBERS = frozenset(("hash", "parent", "child", "last", "ranked", "posting", *_AT))


class Codes(Sequence[str]):
    """Codes by their numbers, decoded when they are looked at."""

    def __init__(self, system: PackedSystem, numbers: Sequence[int]) -> None:
        self.system = system
        self.numbers = numbers

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> Codes: ...
    def __getitem__(self, at: int | slice) -> str | Codes:
        if isinstance(at, slice):
            return Codes(self.system, self.numbers[at])
        return self.system.code(self.numbers[at])

    def __iter__(self) -> Iterator[str]:
        return map(self.system.code, self.numbers)


# Properties that are no part of a concept's record.
_OWN = frozenset(("code", "display", "inactive", "notSelectable", "parent", "child"))
# So many of the best matches are put in order by their display: what it says itself goes before synonyms.
_HEAD = 100


def _shown(words: list[str], wanted: list[str]) -> int:
    """How well a display shows what was asked: 2 where it begins so, 1 where it has all the words."""
    if words[: len(wanted)] == wanted or (len(wanted) == 1 and words and words[0].startswith(wanted[0])):
        return 2
    return int(all(any(word.startswith(w) for word in words) for w in wanted))


class Ranked(Sequence[int]):
    """Numbers of concepts by rank, the first of them in an order of their own; the rest are read when looked at."""

    def __init__(self, head: Sequence[int], ranks: Sequence[int], order: memoryview) -> None:
        self._head = head
        self._ranks = ranks
        self._order = order

    def __len__(self) -> int:
        return len(self._ranks)

    @overload
    def __getitem__(self, at: int) -> int: ...
    @overload
    def __getitem__(self, at: slice) -> list[int]: ...
    def __getitem__(self, at: int | slice) -> int | list[int]:
        if isinstance(at, slice):
            return [self[i] for i in range(*at.indices(len(self)))]
        return self._head[at] if at < len(self._head) else int(self._order[self._ranks[at]])


class PackedSystem:
    """Reads a packed table; `data` may be a memory-mapped file.

    `everywhere` are properties that every concept has a value of.
    """

    everywhere: frozenset[str] = frozenset()

    def __init__(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        if bytes(view[:8]) != MAGIC:
            raise FhirError("invalid", "This is not a packed code system")
        start = 16 + int.from_bytes(view[8:16], "little")
        self._header: Json = msgspec.json.decode(bytes(view[16:start]))
        self.about: Json = self._header["about"]
        self.url: str = self.about.get("url", "")
        self.version: str | None = self.about.get("version")
        self._fold: bool = self._header["fold"]
        self._total: int = self._header["total"]
        places = self._header["sections"].items()
        self._parts = {name: view[start + at : start + at + size] for name, (at, size) in places}
        self._ints = {name: part.cast("I") for name, part in self._parts.items() if name in NUMBERS}
        self._code_at, self._code = self._ints["code_at"], self._parts["code"]
        self._hash = self._ints["hash"]
        self._last: memoryview | None = self._ints.get("last")

    def _text(self, name: str, number: int) -> bytes:
        at = self._ints[name + "_at"]
        return bytes(self._parts[name][at[number] : at[number + 1]])

    def _list(self, name: str, number: int) -> memoryview:
        at = self._ints[name + "_at"]
        return self._ints[name][at[number] : at[number + 1]]

    def code(self, number: int) -> str:
        """The code of a concept."""
        at = self._code_at
        return str(self._code[at[number] : at[number + 1]], "utf-8")

    def number(self, code: str) -> int | None:
        """The number of a code, folded where the system does not mind its case."""
        wanted = (code.casefold() if self._fold else code).encode("utf-8", "surrogatepass")
        size = len(self._hash)
        slot = slot_of(wanted, size)
        while found := self._hash[slot]:
            stored = self.code(found - 1)
            if (stored.casefold() if self._fold else stored).encode() == wanted:
                return found - 1
            slot = (slot + 1) & (size - 1)
        return None

    @cached_property
    def any_inactive(self) -> bool:
        """Whether a check for inactive codes can find one."""
        return any(flag & INACTIVE for flag in bytes(self._parts["flags"]))

    def _known(self, code: str) -> int:
        number = self.number(code)
        if number is None:
            raise KeyError(code)
        return number

    def locate(self, code: str) -> str | None:
        """The code as the table has it."""
        number = self.number(code)
        return None if number is None else self.code(number)

    def codes(self) -> Codes:
        """All codes in order."""
        return Codes(self, range(self._total))

    def total(self) -> int | None:
        """How many codes there are."""
        return self._total

    def display(self, number: int) -> str:
        """The display of a concept."""
        return self._text("display", number).decode()

    def record(self, number: int) -> Json:
        """What else is known of a concept."""
        raw = self._text("extra", number)
        found: Json = msgspec.json.decode(raw) if raw else {}
        return found

    def parents(self, code: str) -> Codes:
        """The codes directly above."""
        return Codes(self, self._list("parent", self._known(code)))

    def children(self, code: str) -> Codes:
        """The codes directly below."""
        return Codes(self, self._list("child", self._known(code)))

    def subsumes(self, ancestor: str, code: str) -> bool:
        """In a tree by the range of the subtree, else by walking up."""
        top, number = self._known(ancestor), self._known(code)
        if self._last is not None:
            return top < number <= self._last[top]
        return top != number and top in self._walk("parent", number)

    def _walk(self, edge: str, number: int) -> set[int]:
        seen: set[int] = set()
        stack = list(self._list(edge, number))
        while stack:
            at = stack.pop()
            if at not in seen:
                seen.add(at)
                stack.extend(self._list(edge, at))
        return seen

    def below(self, code: str, *, itself: bool = False) -> Sequence[int]:
        """The numbers below, with the code's own or strictly: a range in a tree."""
        top = self._known(code)
        if self._last is not None:
            return range(top if itself else top + 1, self._last[top] + 1)
        found = self._walk("child", top)
        return sorted(found | {top} if itself else found - {top})

    def descendants(self, code: str) -> Codes:
        """Every code strictly below."""
        return Codes(self, self.below(code))

    def flags(self, number: int) -> int:
        """INACTIVE and ABSTRACT of a concept."""
        return self._parts["flags"][number]

    def inactive(self, code: str) -> bool:
        """By the flag."""
        return bool(self.flags(self._known(code)) & INACTIVE)

    def concept(self, code: str) -> Concept:
        """The concept with everything known."""
        number = self._known(code)
        extra, flags = self.record(number), self.flags(number)
        inactive = bool(flags & INACTIVE)
        own = extra.get("property", ())
        properties = (*self.derived(number), *own)
        status = next((text_of(value_of(p)[1]) for p in own if p.get("code") == "status"), None)
        return Concept(
            self.code(number),
            self.display(number),
            extra.get("definition"),
            tuple(designation(d) for d in extra.get("designation", ())),
            properties,
            (),
            self.about.get("language"),
            bool(flags & ABSTRACT),
            inactive,
            status or ("inactive" if inactive else None),
        )

    def derived(self, number: int) -> Iterable[Json]:
        """Properties that follow from the place in the tree, before those of the table."""
        return ()

    def values(self, code: str, name: str) -> Iterable[str]:
        """The values of a property; codes and displays count as properties too."""
        number = self._known(code)
        if name in ("code", "display"):
            return [code if name == "code" else self.display(number)]
        if name in ("inactive", "notSelectable"):
            flag = INACTIVE if name == "inactive" else ABSTRACT
            return ["true"] if self.flags(number) & flag else []
        extra = self.record(number)
        if name == "designation":
            return [d.get("value", "") for d in extra.get("designation", ())]
        return [text_of(value_of(p)[1]) for p in extra.get("property", ()) if p.get("code") == name]

    def having(self, name: str, value: str) -> Sequence[int] | None:
        """The numbers of the concepts that have a value of a property; None where each has to be asked."""
        if name in _OWN:
            return None
        found = places(self._parts["extra"], self._ints["extra_at"], value)
        return [number for number in found if value in self.values(self.code(number), name)]

    @cached_property
    def _index(self) -> Index:
        at, words = self._ints["word_at"], bytes(self._parts["word"])
        texts = [words[at[i] : at[i + 1]].decode() for i in range(len(at) - 1)]
        return Index(texts, lambda i: self._list("posting", i))

    def ranked(self, text: str) -> Sequence[int]:
        """The numbers of concepts whose names match, best first."""
        ranks, order, wanted = rank(self._index, text), self._ints["ranked"], tokens(text)
        head = [order[r] for r in ranks[:_HEAD]]
        head.sort(key=lambda n: self._merit(tokens(self.display(n)), wanted), reverse=True)
        return Ranked(head, ranks, order)

    def _merit(self, words: list[str], wanted: list[str]) -> tuple[int, int]:
        """How well a display shows what was asked, then how common its word is: `dia` is diabetes before diastasis."""
        shown = _shown(words, wanted)
        meant = next((w for w in words if wanted and w.startswith(wanted[0])), "") if shown else ""
        at = bisect_left(self._index.words, meant) if meant else 0
        return shown, len(self._list("posting", at)) if meant else 0

    def spelled(self, word: str) -> str:
        """The word as the names of the system write it."""
        return self._index.spelled(word)

    def commonest(self, prefix: str) -> str:
        """The word that is most likely being typed."""
        return self._index.commonest(prefix)

    def search(self, text: str) -> Codes | None:
        """Codes whose names match, best first."""
        return Codes(self, self.ranked(text))

    def special_filter(self, name: str, operator: str, value: str) -> Iterable[str] | None:
        """A plain table has no filters of its own."""
        return None
