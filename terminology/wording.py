"""Finding concepts by the words of their names: whole words, beginnings of words, then typing errors."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from rapidfuzz.distance import DamerauLevenshtein
from rapidfuzz.process import extract

_TOKEN = re.compile(r"[^\W_]+(?:\.[^\W_]+)*")
_LAST = "\U0010ffff"
_TYPO_WORDS = 12
_MOST_WORDS = 20


def fold(text: str) -> str:
    """The text without case and accents."""
    if text.isascii():
        return text.lower()
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(c for c in decomposed if not unicodedata.combining(c))


def tokens(text: str) -> list[str]:
    """The folded words of a text; a code such as E11.65 is one word."""
    return _TOKEN.findall(fold(text))


@dataclass(frozen=True, slots=True)
class Index:
    """Sorted words, and for each the numbers of the concepts that carry it; a smaller number is shown first."""

    words: Sequence[str]
    postings: Callable[[int], Iterable[int]]

    def exact(self, word: str) -> set[int]:
        """Concepts that carry the word."""
        at = bisect_left(self.words, word)
        return set(self.postings(at)) if at < len(self.words) and self.words[at] == word else set()

    def beginning(self, prefix: str) -> set[int]:
        """Concepts that carry a word with the beginning."""
        found: set[int] = set()
        first = bisect_left(self.words, prefix)
        for at in range(first, bisect_left(self.words, prefix + _LAST, first)):
            found.update(self.postings(at))
        return found

    def alone(self, prefix: str) -> list[int]:
        """The same in order, those with the word itself first: its list is sorted as it is (60,000 for `encounter`)."""
        first = bisect_left(self.words, prefix)
        end = bisect_left(self.words, prefix + _LAST, first)
        whole: list[int] = []
        if first < end and self.words[first] == prefix:
            whole, first = list(self.postings(first)), first + 1
        rest: set[int] = set()
        for at in range(first, end):
            rest.update(self.postings(at))
        return whole + sorted(rest.difference(whole)) if rest else whole

    def similar(self, word: str) -> set[int]:
        """Concepts that carry a word one typing error away, two for words of eight letters or more.

        Words with the same first letter come first: they are one in twenty, and errors there are rare.
        """
        found: set[int] = set()
        for at in self._alike(word):
            found.update(self.postings(at))
        return found

    def _alike(self, word: str) -> list[int]:
        errors = 0 if len(word) < 4 else 1 if len(word) < 8 else 2
        if not errors:
            return []
        first = bisect_left(self.words, word[0])
        near = self._near(word, errors, first, bisect_left(self.words, word[0] + _LAST))
        return near or self._near(word, errors, 0, len(self.words))

    def spelled(self, word: str) -> str:
        """The word, or where none begins so the most alike, of those the commonest; the word itself where none is."""
        first = bisect_left(self.words, word)
        if first < len(self.words) and self.words[first].startswith(word):
            return word
        errors = 0 if len(word) < 4 else 1 if len(word) < 8 else 2
        near = self._near(word, errors, 0, len(self.words)) if errors else []
        distance = DamerauLevenshtein.distance
        return min((self.words[at] for at in near), key=lambda w: (distance(word, w), -self._carriers(w)), default=word)

    def commonest(self, prefix: str) -> str:
        """The word itself where it is one, else the word that begins so and that most concepts carry."""
        first = bisect_left(self.words, prefix)
        words = self.words[first : bisect_left(self.words, prefix + _LAST, first)]
        return prefix if not words or words[0] == prefix else max(words, key=self._carriers)

    def _carriers(self, word: str) -> int:
        return sum(1 for _ in self.postings(bisect_left(self.words, word)))

    def _near(self, word: str, errors: int, start: int, end: int) -> list[int]:
        choices = self.words[start:end]
        rows = extract(word, choices, scorer=DamerauLevenshtein.distance, score_cutoff=errors, limit=_TYPO_WORDS)
        return [start + at for _, _, at in rows]


def rank(index: Index, text: str) -> list[int]:
    """Concepts that match every word of the text: words whole, then beginnings, then typing errors; each by number."""
    wanted = list(dict.fromkeys(tokens(text)))[:_MOST_WORDS]
    if not wanted:
        return []
    if len(wanted) == 1 and (found_by := index.alone(wanted[0])):
        return found_by
    begins = [index.beginning(word) for word in wanted]
    found = set.intersection(*begins)
    if not found:
        return sorted(set.intersection(*(b or index.similar(w) for b, w in zip(begins, wanted, strict=True))))
    whole = set.intersection(*(index.exact(word) for word in wanted))
    return sorted(whole) + sorted(found - whole)


class Words:
    """The index of a system that is held in memory: keys and the texts that name them."""

    def __init__(self, rows: Iterable[tuple[str, list[str]]]) -> None:
        ordered = sorted(rows, key=lambda row: len(row[1][0]) if row[1] else 0)
        self._keys = [key for key, _ in ordered]
        postings: dict[str, list[int]] = {}
        for number, (_, texts) in enumerate(ordered):
            for word in {word for text in texts for word in tokens(text)}:
                postings.setdefault(word, []).append(number)
        words = sorted(postings)
        self._index = Index(words, lambda at: postings[words[at]])

    def find(self, text: str) -> list[str]:
        """Keys that match, best first."""
        return [self._keys[number] for number in rank(self._index, text)]
