"""ICD-10: what the tabular list says beyond its codes, and the two conveniences for coders.

Billable, chapter and block are read off the tree; excludes, code first and the rest are properties as published.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from terminology.concepts import Json, value_of
from terminology.pack import ABSTRACT
from terminology.packed import PackedSystem
from terminology.wording import tokens

_CM = "http://hl7.org/fhir/sid/icd-10-cm"
_TREE = ("billable", "chapter", "block")
_REFERENCE = re.compile(r"([A-Z][0-9][0-9A-Z](?:\.[0-9A-Z]*)?)(-(?:[A-Z][0-9][0-9A-Z](?:\.[0-9A-Z]*)?)?)?")
_BRACKETS = re.compile(r"\(([^()]*)\)")
# What a title or a note says about the patient it can be used for.
_SEX = (
    (re.compile(r"\bmaternal records?\b|\bpregnancy\b|\bpuerperium\b", re.I), "female"),
    (re.compile(r"\b(?:of|in) (?:the )?female\b|\bfemale (?:genital|pelvic)", re.I), "female"),
    (re.compile(r"\b(?:of|in) (?:the )?male\b|\bmale genital", re.I), "male"),
)
# "Health check for child under 29 days old"
_AGE = re.compile(r"\b(under|less than|over) (\d+) (day|month|year)s? old", re.I)
_DAYS = {"day": 1, "month": 30, "year": 365}
_NEWBORN = re.compile(r"\bnewborn records?\b", re.I)
_NEWBORN_DAYS = 28


class Icd10(PackedSystem):
    """A packed table of ICD-10 with the properties that follow from the tree."""

    everywhere = frozenset(("billable",))

    def derived(self, number: int) -> Iterable[Json]:
        """`billable`, `chapter` and `block`."""
        return self._tree(number)

    def values(self, code: str, name: str) -> Iterable[str]:
        """Property values, those of the tree too."""
        if name in _TREE:
            return [
                str(value_of(p)[1]).lower() if name == "billable" else str(value_of(p)[1])
                for p in self._tree(self._known(code))
                if p["code"] == name
            ]
        return super().values(code, name)

    def having(self, name: str, value: str) -> Sequence[int] | None:
        """Those of the tree: by going over its numbers, once for each value."""
        if name not in _TREE:
            return super().having(name, value)
        held = self._in_tree.get((name, value))
        if held is None:
            held = array("I", self._having(name, value))
            if held:  # the values that exist are few, those that can be asked for are not
                self._in_tree[name, value] = held
        return held

    @cached_property
    def _in_tree(self) -> dict[tuple[str, str], Sequence[int]]:
        return {}

    def _having(self, name: str, value: str) -> Iterator[int]:
        if name == "billable":
            wanted = {"true": True, "false": False}.get(value)
            numbers: Iterable[int] = range(self._total) if self.url == _CM and wanted is not None else ()
            yield from (number for number in numbers if self.is_billable(number) == wanted)
        elif self.number(value) is not None:
            below = self.below(value)
            yield from (number for number in below if value in self.values(self.code(number), name))

    def _tree(self, number: int) -> Iterator[Json]:
        if self.url == _CM:
            yield {"code": "billable", "valueBoolean": self.is_billable(number)}
        groups = [n for n in self._line(number)[:-1] if self.flags(n) & ABSTRACT]
        if groups:
            yield {"code": "chapter", "valueCode": self.code(groups[0])}
        if len(groups) > 1:
            yield {"code": "block", "valueCode": self.code(groups[1])}

    def is_billable(self, number: int) -> bool:
        """The same of a number."""
        return not self.flags(number) & ABSTRACT and not len(self._list("child", number))

    def _line(self, number: int) -> list[int]:
        line = [number]
        while above := self._list("parent", line[-1]):
            line.append(above[0])
        return line[::-1]

    def billable(self, code: str) -> bool:
        """Valid for claims: a code without subdivisions."""
        return self.is_billable(self._known(code))

    def below_directly(self, number: int) -> Sequence[int]:
        """The subdivisions of a concept."""
        return self._list("child", number)

    def is_usual(self, number: int, words: frozenset[str]) -> bool:
        """Whether a category above says that it includes the disease of which nothing more is known: `diabetes NOS`."""
        return any(said <= words for at in self._line(number) for said in self._unspecified.get(at, ()))

    @cached_property
    def _unspecified(self) -> dict[int, list[frozenset[str]]]:
        """The diseases that a category includes where nothing more is known."""
        starts, found = self._ints["extra_at"], {}
        for at in re.finditer(rb' NOS"', self._parts["extra"]):
            number = bisect_right(starts, at.start()) - 1
            notes = [p["valueString"] for p in self.record(number).get("property", ()) if p["code"] == "includes"]
            found[number] = [frozenset(tokens(n)) - {"nos"} for n in notes if n.endswith(" NOS")]
        return found

    def line(self, code: str) -> list[str]:
        """The code's ancestors from the chapter down, and itself."""
        return [self.code(number) for number in self._line(self._known(code))]

    def notes(self, code: str) -> list[tuple[str, str, str]]:
        """The notes that hold for a code: its own and those of all above it, as (code they stand at, kind, text)."""
        return [(at, p["code"], p["valueString"]) for at in self.line(code) for p in self._own_notes(at)]

    def _own_notes(self, code: str) -> list[Json]:
        return [p for p in self.record(self.number(code) or 0).get("property", ()) if "valueString" in p]


def with_dot(code: str) -> str:
    """A code as it is written in the tabular list: E1165 is E11.65."""
    code = code.strip().upper()
    return f"{code[:3]}.{code[3:]}" if len(code) > 3 and "." not in code else code


@dataclass(frozen=True, slots=True)
class Patient:
    """What age and sex edits look at; None is not known."""

    sex: str | None = None
    age_days: int | None = None


def validate(system: Icd10, codes: Sequence[str], patient: Patient | None = None) -> Json:
    """Whether each code may be used, and which of them exclude each other."""
    patient = patient or Patient()
    known = [system.locate(with_dot(c)) for c in codes]
    rows = [_judged(system, given, code, patient) for given, code in zip(codes, known, strict=True)]
    usable = list(dict.fromkeys(c for c in known if c is not None))
    pairs = [found for a in usable for b in usable if a != b for found in _excluded(system, a, b)]
    return {"codes": rows, "excluded": pairs}


def _judged(system: Icd10, given: str, code: str | None, patient: Patient) -> Json:
    if code is None:
        return {"code": given, "valid": False, "billable": False, "problems": [_unknown(system, given)]}
    seventh = [c for c in system.children(code) if len(c) == 8 and len(code) < 8]
    problems = list(_edits(system, code, patient))
    if seventh:
        problems.insert(0, f"{code} needs a 7th character: {', '.join(c[-1] for c in seventh)}")
    elif not system.billable(code):
        problems.insert(0, f"{code} is not billable; it is divided into {', '.join(list(system.children(code))[:12])}")
    return {
        "code": code,
        "display": system.display(system.number(code) or 0),
        "valid": True,
        "billable": system.billable(code),
        "needs7thCharacter": bool(seventh),
        "problems": problems,
    }


def _unknown(system: Icd10, given: str) -> str:
    stem = with_dot(given)
    while len(stem) > 3:
        stem = stem[:-1].rstrip(".")
        known = system.locate(stem)
        if known is not None:
            below = ", ".join(list(system.children(known))[:12]) or "no subdivision"
            return f"{given} is no code; {known} is, with {below}"
    return f"{given} is no code"


def _edits(system: Icd10, code: str, patient: Patient) -> Iterator[str]:
    said = [(at, system.display(system.number(at) or 0)) for at in system.line(code)]
    said += [(at, text) for at, kind, text in system.notes(code) if kind in ("note", "includes")]
    for at, text in said:
        for pattern, sex in _SEX:
            if patient.sex in ("male", "female") and patient.sex != sex and pattern.search(text):
                yield f"{code} is for {sex} patients: {at} says '{text}'"
                return
    for at, text in said:
        if patient.age_days is not None and patient.age_days > _NEWBORN_DAYS and _only_newborn(text):
            yield f"{code} is for newborns: {at} says '{text}'"
            return
    yield from _ages(system, code, patient)


def _ages(system: Icd10, code: str, patient: Patient) -> Iterator[str]:
    """Where a title or an inclusion term speaks of an age in days, months or years."""
    said = [(at, name.value) for at in system.line(code) for name in system.concept(at).names()]
    for at, text in said:
        limit = _AGE.search(text)
        if limit is None or patient.age_days is None:
            continue
        days = int(limit[2]) * _DAYS[limit[3].lower()]
        if patient.age_days <= days if limit[1].lower() == "over" else patient.age_days >= days:
            yield f"{code} is for another age: {at} says '{text}'"
            return


def _only_newborn(text: str) -> bool:
    return bool(_NEWBORN.search(text)) and "never on newborn" not in text.lower()


def _excluded(system: Icd10, code: str, other: str) -> Iterator[Json]:
    for at, kind, text in system.notes(code):
        if kind == "excludes1" and any(covers(r, other) for r in references(text)) and at not in system.line(other)[2:]:
            yield {"code": code, "excludes": other, "at": at, "note": text}


@lru_cache(maxsize=4096)
def references(note: str) -> tuple[str, ...]:
    """The codes that a note names in brackets: `Z16.-`, `P35-P39`, `E11.65`."""
    return tuple("".join(m.groups("")) for inner in _BRACKETS.findall(note) for m in _REFERENCE.finditer(inner))


def covers(reference: str, code: str) -> bool:
    """Whether a reference means the code: the code itself, one below it, or one within its range."""
    first, dash, last = reference.partition("-")
    if not dash or not last:
        return code == first or code.startswith(first if first.endswith(".") or len(first) > 3 else first + ".")
    return first <= code and code[: len(last)] <= last
