"""What other rooms ask of terminology: membership, subsumption, and the codes of value sets and branches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from profiles.outcome import FhirError
from terminology.compose import Composer, Report
from terminology.concepts import Json
from terminology.faults import Asked
from terminology.library import Library
from terminology.membership import Found, ValueSets
from terminology.packed import Codes as Listing
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


Codes = dict[str, set[str]]


def expand_codes(library: Library, value_set: str) -> Codes:
    """Every code of a value set, by system (`:in`, `:not-in`)."""
    found = library.value_set(value_set)
    if found is None:
        raise FhirError("not-found", f"A definition for the value Set '{value_set}' could not be found", status=400)
    return gathered(Composer(ValueSets(library, Options()), found, Report()))


def gathered(composer: Composer) -> Codes:
    """The codes of a value set as sets: a hundred times as fast as its items, which tell order, names and versions."""
    excluded: list[Json] = composer.compose.get("exclude", [])
    found: Codes = {}
    if "compose" not in composer.value_set or any("version" in row for row in excluded):
        for item in composer.items():
            found.setdefault(item.key[0], set()).add(item.key[2])
        return found
    for number, row in enumerate(composer.includes):
        for url, codes in _row(composer, row, f"ValueSet.compose.include[{number}]").items():
            found.setdefault(url, set()).update(codes)
    for number, row in enumerate(excluded):
        for url, codes in _row(composer, row, f"ValueSet.compose.exclude[{number}]").items():
            found.get(url, set()).difference_update(codes)
    return found


def _row(composer: Composer, row: Json, place: str) -> Codes:
    """What an include or exclude names: the codes that its system and all its imports have in common."""
    parts = [gathered(composer.inner(url)) for url in row.get("valueSet", ())]
    if "system" in row:
        parts.append({row["system"]: set(composer.codes(row, place))})
    common = parts.pop() if parts else {}
    for part in parts:
        common = {url: codes & part[url] for url, codes in common.items() if url in part}
    return common


def below(system: System, code: str) -> Sequence[str]:
    """A code and everything below it (`:below`)."""
    if isinstance(system, PackedSystem):
        return Listing(system, system.below(code, itself=True))
    return [code, *system.descendants(code)]


def above(system: System, code: str) -> list[str]:
    """A code and everything above it (`:above`)."""
    return list(dict.fromkeys(_upward(system, code)))


def _upward(system: System, code: str) -> Iterator[str]:
    seen, stack = set[str](), [code]
    while stack:
        at = stack.pop()
        if at not in seen:
            seen.add(at)
            yield at
            stack.extend(system.parents(at))


def search_codes(library: Library, how: str, value: str) -> Codes:
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
    return {url: set(below(system, known) if how == "below" else above(system, known))}
