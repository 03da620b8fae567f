"""What other rooms ask of terminology: membership, subsumption, and the codes of value sets and branches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from profiles.outcome import FhirError
from terminology.compose import Composer, Report
from terminology.concepts import Json
from terminology.faults import Asked
from terminology.library import Library
from terminology.membership import Found, ValueSets
from terminology.packed import PackedSystem
from terminology.request import Options
from terminology.systems import System
from terminology.verdict import Verdict

_OPTIONS = Options(membership_only=True)


def member_of(
    library: Library, value_set: str, code: str, system: str | None, version: str | None = None
) -> bool | None:
    """Whether a code is in a value set; None where the set, or a system it needs, is not known.

    A code without a system is looked for in the systems of the set (a `code` element bound to it).
    """
    found = library.value_set(value_set)
    if found is None:
        return None
    try:
        checker = ValueSets(library, _OPTIONS).checker(found)
    except FhirError:
        return None
    if system is None:
        return bool(checker.systems_of(code)) or (None if _open(library, found) else False)
    result = checker.check(Asked("", system, version, code), Verdict(), Found())
    if result is False and _listed_unknown(library, found, system, code):
        return True
    return None if result is False and _needs(library, found, system) else result


def _listed_unknown(library: Library, value_set: Json, system: str, code: str) -> bool:
    """A code of a system that is not known but that the value set lists is in it."""
    rows = [r for r in value_set.get("compose", {}).get("include", ()) if r.get("system") == system]
    return library.code_system(system) is None and any(
        c.get("code") == code for r in rows for c in r.get("concept", ())
    )


def _needs(library: Library, value_set: Json, system: str) -> bool:
    """Whether the value set draws on the system by more than a list, and the system is not known or not whole."""
    rows = [r for r in value_set.get("compose", {}).get("include", ()) if r.get("system") == system]
    known = library.code_system(system)
    return any("concept" not in r for r in rows) and (known is None or known.about.get("content") != "complete")


def _open(library: Library, value_set: Json) -> bool:
    rows = value_set.get("compose", {}).get("include", ())
    return any("system" in r and library.code_system(r["system"]) is None and "concept" not in r for r in rows)


def subsumes(library: Library, system: str, ancestor: str, code: str) -> bool | None:
    """Whether the first code is the second or above it; None where the system or a code is not known."""
    found = library.code_system(system)
    a, b = (found.locate(ancestor), found.locate(code)) if found else (None, None)
    if found is None or a is None or b is None:
        return None
    return a == b or found.subsumes(a, b)


@dataclass(frozen=True, slots=True)
class Branch:
    """Codes of one system for a search: ranges of code texts (both ends belong to them), and codes one by one."""

    system: str
    ranges: tuple[tuple[str, str], ...] = ()
    codes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ranges) + len(self.codes)

    def all(self, library: Library) -> Iterator[str]:
        """Every code, the ranges written out."""
        yield from self.codes
        system = library.code_system(self.system) if self.ranges else None
        if isinstance(system, PackedSystem):
            for first, last in self.ranges:
                yield from system.between(first, last)

    def holds(self, code: str) -> bool:
        """Whether a code belongs to the branch."""
        return code in self.codes or any(first <= code <= last for first, last in self.ranges)


# A branch of a packed system becomes ranges where they are at most this share of its codes.
_DENSE = 0.5


def expand_codes(library: Library, value_set: str) -> list[Branch]:
    """Every code of a value set, by system, as few ranges and codes as there can be (`:in`, `:not-in`)."""
    found = library.value_set(value_set)
    if found is None:
        raise FhirError("not-found", f"A definition for the value Set '{value_set}' could not be found", status=400)
    composer = Composer(ValueSets(library, Options()), found, Report())
    whole = _whole(library, found)
    if whole is not None:
        return [whole]
    by_system: dict[str, dict[str, None]] = {}
    for item in composer.items():
        by_system.setdefault(item.key[0], {})[item.key[2]] = None
    return [_branch(library, url, codes) for url, codes in by_system.items()]


def _whole(library: Library, value_set: Json) -> Branch | None:
    """One include of a code and all below it needs no walk through the codes."""
    compose = value_set.get("compose", {})
    rows = compose.get("include", ())
    if len(rows) != 1 or "exclude" in compose or set(rows[0]) - {"system", "filter", "version"}:
        return None
    filters = rows[0].get("filter", ())
    if len(filters) != 1 or filters[0].get("op") not in ("is-a", "descendent-of"):
        return None
    system = library.code_system(rows[0]["system"], rows[0].get("version"))
    top = system.locate(filters[0].get("value", "")) if system else None
    if system is None or top is None:
        return None
    return below(system, top, itself=filters[0]["op"] == "is-a")


def _branch(library: Library, url: str, codes: dict[str, None]) -> Branch:
    system = library.code_system(url)
    if isinstance(system, PackedSystem) and len(codes) > 100:
        numbers = sorted(n for c in codes if (n := system.number(c)) is not None)
        return _packed(url, system, numbers)
    return Branch(url, codes=tuple(codes))


def _packed(url: str, system: PackedSystem, numbers: list[int]) -> Branch:
    ranges = system.ranges(numbers)
    if len(ranges) > _DENSE * len(numbers):
        return Branch(url, codes=tuple(system.code(n) for n in numbers))
    single = tuple(first for first, last in ranges if first == last)
    return Branch(url, tuple(r for r in ranges if r[0] != r[1]), single)


def below(system: System, code: str, *, itself: bool = True) -> Branch:
    """A code and everything below it (`:below`); E11 of ICD-10-CM is one range, E11 to E11.A."""
    if isinstance(system, PackedSystem):
        top = system.number(code)
        numbers = sorted(chain([top] if itself and top is not None else [], system.below(code)))
        return _packed(system.url, system, numbers)
    return Branch(system.url, codes=tuple(chain([code] if itself else [], system.descendants(code))))


def above(system: System, code: str) -> Branch:
    """A code and everything above it (`:above`)."""
    return Branch(system.url, codes=tuple(dict.fromkeys(_upward(system, code))))


def _upward(system: System, code: str) -> Iterator[str]:
    seen, stack = set[str](), [code]
    while stack:
        at = stack.pop()
        if at not in seen:
            seen.add(at)
            yield at
            stack.extend(system.parents(at))


def search_codes(library: Library, how: str, value: str) -> list[Branch]:
    """The codes that `:in`, `:below` or `:above` mean; `value` is a value set, or `system|code`."""
    if how == "in":
        return expand_codes(library, value)
    url, bar, code = value.rpartition("|")
    if not bar or not url or not code:
        raise FhirError("invalid", f":{how} needs a code with its system: system|code")
    system = library.code_system(url)
    if system is None:
        raise FhirError("not-found", f"A definition for CodeSystem '{url}' could not be found", status=400)
    known = system.locate(code)
    if known is None:
        raise FhirError("not-found", f"Unknown code '{code}' in the CodeSystem '{url}'", status=400)
    return [below(system, known) if how == "below" else above(system, known)]
