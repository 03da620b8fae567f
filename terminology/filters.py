"""The filters of ValueSet.compose, one function for each operator (http://hl7.org/fhir/R4/valueset-filter-operator.html)."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import re2

from profiles.outcome import FhirError
from terminology.concepts import Json
from terminology.messages import refuse
from terminology.packed import Codes, PackedSystem
from terminology.systems import Resolved, System
from terminology.versions import canonical

_CONCEPT = frozenset(("concept", "code"))
_BUILT_IN = frozenset(
    ("concept", "code", "display", "definition", "designation", "parent", "child", "inactive", "status")
)
_STANDARD = frozenset(("notSelectable", "deprecated", "deprecationDate", "alternateCode", "comment", "abstract"))


@dataclass(frozen=True, slots=True)
class Selection:
    """Codes of one system: all of them in order, and whether one belongs; of a packed system by their numbers too.

    `size` is how many codes it holds in memory.
    """

    codes: Callable[[], Iterable[str]]
    holds: Callable[[str], bool]
    numbers: Container[int] | None = None
    size: int = 0


def _of(codes: Iterable[str]) -> Selection:
    known = dict.fromkeys(codes)
    return Selection(lambda: known, known.__contains__, size=len(known))


def _where(system: System, holds: Callable[[str], bool]) -> Selection:
    return Selection(lambda: filter(holds, system.codes()), holds)


def _known(system: System, code: str) -> str | None:
    return system.locate(code)


def _is_a(system: System, name: str, value: str) -> Selection:
    top = _known(system, value)
    if top is None:
        return _of(())
    if isinstance(system, PackedSystem):
        return _numbered(system, top, itself=True)
    return Selection(lambda: _with(top, system), lambda code: code == top or system.subsumes(top, code))


def _numbered(system: PackedSystem, top: str, *, itself: bool) -> Selection:
    return _by_number(system, system.below(top, itself=itself))


def _by_number(system: System, numbers: Sequence[int]) -> Selection:
    assert isinstance(system, PackedSystem)
    known = numbers if isinstance(numbers, range) else frozenset(numbers)
    size = 0 if isinstance(numbers, range) else len(numbers)
    return Selection(lambda: Codes(system, numbers), lambda code: system.number(code) in known, known, size)


def _with(top: str, system: System) -> Iterator[str]:
    yield top
    yield from system.descendants(top)


def _descendent_of(system: System, name: str, value: str) -> Selection:
    top = _known(system, value)
    if top is None:
        return _of(())
    if isinstance(system, PackedSystem):
        return _numbered(system, top, itself=False)
    return Selection(lambda: system.descendants(top), lambda code: system.subsumes(top, code))


def _is_not_a(system: System, name: str, value: str) -> Selection:
    top = _known(system, value)
    return _where(system, lambda code: top is None or (code != top and not system.subsumes(top, code)))


def _child_of(system: System, name: str, value: str) -> Selection:
    top = _known(system, value)
    return _of(() if top is None else system.children(top))


def _descendent_leaf(system: System, name: str, value: str) -> Selection:
    below = _descendent_of(system, name, value)
    leaf = _leaf(system)
    return Selection(lambda: filter(leaf, below.codes()), lambda code: below.holds(code) and leaf(code))


def _leaf(system: System) -> Callable[[str], bool]:
    return lambda code: not any(True for _ in system.children(code))


def _generalizes(system: System, name: str, value: str) -> Selection:
    bottom = _known(system, value)
    if bottom is None:
        return _of(())
    return _where(system, lambda code: code == bottom or system.subsumes(code, bottom))


def _equal(system: System, name: str, value: str) -> Selection:
    if name in _CONCEPT:
        found = _known(system, value)
        return _of(() if found is None else (found,))
    if name in ("parent", "child"):
        return _related(system, name, value)
    # A boolean that is not given is false (http://hl7.org/fhir/R4/codesystem-concept-properties.html).
    absent = value == "false" and _boolean(system, name)
    if isinstance(system, PackedSystem) and (not absent or name in system.everywhere):
        numbers = system.having(name, value)
        if numbers is not None:
            return _by_number(system, numbers)
    return _where(system, lambda code: _has(system.values(code, name), value, absent))


def _related(system: System, name: str, value: str) -> Selection:
    other = _known(system, value)
    if other is None:
        return _of(())
    return _of(system.children(other) if name == "parent" else system.parents(other))


def _has(values: Iterable[str], value: str, absent: bool) -> bool:
    known = list(values)
    return value in known if known else absent


def _boolean(system: System, name: str) -> bool:
    if name in ("notSelectable", "inactive"):
        return True
    return any(p.get("code") == name and p.get("type") == "boolean" for p in system.about.get("property", ()))


def values_of(system: System, code: str, name: str) -> Iterable[str]:
    """The values of a property, the codes directly above and below too."""
    if name in ("parent", "child"):
        return system.parents(code) if name == "parent" else system.children(code)
    return system.values(code, name)


def _in(system: System, name: str, value: str) -> Selection:
    wanted = {v.strip() for v in value.split(",")}
    if isinstance(system, PackedSystem):
        numbers = _numbers_of(system, name, wanted)
        if numbers is not None:
            return _by_number(system, sorted(numbers))
    if name in _CONCEPT:
        codes = {c for v in wanted if (c := _known(system, v)) is not None}
        return _where(system, codes.__contains__)
    return _where(system, lambda code: not wanted.isdisjoint(values_of(system, code, name)))


def _numbers_of(system: PackedSystem, name: str, wanted: Iterable[str]) -> set[int] | None:
    if name in _CONCEPT:
        return {number for v in wanted if (number := system.number(v)) is not None}
    found = [system.having(name, v) for v in wanted]
    return None if None in found else {number for numbers in found for number in numbers or ()}


def _not_in(system: System, name: str, value: str) -> Selection:
    inside = _in(system, name, value)
    return _where(system, lambda code: not inside.holds(code))


def _exists(system: System, name: str, value: str) -> Selection:
    if value not in ("true", "false"):
        raise FhirError("invalid", f"The filter '{name} exists' takes true or false, not '{value}'")
    return _where(system, lambda code: any(True for _ in values_of(system, code, name)) == (value == "true"))


@lru_cache(maxsize=256)
def _pattern(text: str) -> Callable[[str], object]:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = 1 << 20
    try:
        fullmatch: Callable[[str], object] = re2.compile(text, options=options).fullmatch
    except re2.error:
        raise FhirError("invalid", f"The filter's regular expression is not valid: {text[:200]}") from None
    return fullmatch


def _regex(system: System, name: str, value: str) -> Selection:
    fits = _pattern(value)
    if name in _CONCEPT:
        return _where(system, lambda code: bool(fits(code)))
    return _where(system, lambda code: any(fits(v) for v in values_of(system, code, name)))


FILTERS: dict[str, Callable[[System, str, str], Selection]] = {
    "=": _equal,
    "is-a": _is_a,
    "descendent-of": _descendent_of,
    "is-not-a": _is_not_a,
    "regex": _regex,
    "in": _in,
    "not-in": _not_in,
    "generalizes": _generalizes,
    "exists": _exists,
    # Of R5, used by value sets of R4 packages.
    "child-of": _child_of,
    "descendent-leaf": _descendent_leaf,
}
_HIERARCHY = frozenset(("is-a", "descendent-of", "is-not-a", "generalizes", "child-of", "descendent-leaf"))


def select(resolved: Resolved, row: Json, place: str, value_set: Json) -> Selection:
    """The codes of one filter; a filter that makes no sense for the system is refused with what is known."""
    system = resolved.system
    name, operator, value = row.get("property", ""), row.get("op", ""), row.get("value")
    if not value:
        raise refuse(
            "UNABLE_TO_HANDLE_SYSTEM_FILTER_WITH_NO_VALUE", place, system=system.url, property=name, op=operator
        )
    special = system.special_filter(name, operator, str(value))
    if special is not None:
        return _of(special)
    if operator not in FILTERS or not _understood(resolved, name, operator):
        raise _unknown(resolved, row, place, value_set)
    if operator in _HIERARCHY and resolved.content == "complete" and system.locate(str(value)) is None:
        raise _unknown_code(resolved, str(value), place)
    return FILTERS[operator](system, name, str(value))


def _unknown_code(resolved: Resolved, code: str, place: str) -> FhirError:
    """A branch of a code that does not exist is no empty branch."""
    name = "Unknown_Code_in_Version" if resolved.version else "Unknown_Code_in"
    return refuse(name, place, status=422, code=code, system=resolved.url, version=resolved.version)


def _understood(resolved: Resolved, name: str, operator: str) -> bool:
    if operator in _HIERARCHY:
        return name in _CONCEPT
    declared = {p.get("code") for p in resolved.properties()} | {
        f.get("code") for f in resolved.system.about.get("filter", ())
    }
    if resolved.content != "complete":
        return True  # a fragment says nothing of what the whole has; what is drawn from it is marked as not closed
    # Properties that are used though not declared are found by looking at the first concepts.
    return name in _BUILT_IN or name in _STANDARD or name in declared or _used(resolved.system, name)


# What an answer can show of a concept besides the properties of its system.
_SHOWN = frozenset(("system", "name", "version", "abstract", "order", "label", "weight", "itemWeight", "synonym", "*"))


def refuse_unknown_properties(systems: Iterable[Resolved], names: Iterable[str]) -> None:
    """FhirError where a property that is asked for by name is known to none of the systems."""
    known = list(systems)
    for name in names:
        if name.startswith("lang.") or name in _BUILT_IN | _STANDARD | _SHOWN:
            continue
        if known and not any(_understood(resolved, name, "=") for resolved in known):
            told = sorted({*_BUILT_IN, *(p.get("code", "") for r in known for p in r.properties())})
            urls = ", ".join(dict.fromkeys(r.url for r in known))
            raise FhirError("invalid", f"The property '{name}' is not known of {urls}; known are {', '.join(told)}")


def _used(system: System, name: str) -> bool:
    if (system.total() or 0) > 5000:
        return False
    return any(True for code in system.codes() for _ in system.values(code, name))


def _unknown(resolved: Resolved, row: Json, place: str, value_set: Json) -> FhirError:
    operator = row.get("op", "")
    if operator not in FILTERS:
        known = f"operators are {', '.join(FILTERS)}"
    else:
        known = f"properties are {', '.join(sorted({*_BUILT_IN, *(p.get('code', '') for p in resolved.properties())}))}"
    return refuse(
        "FILTER_NOT_UNDERSTOOD",
        place,
        property=row.get("property", ""),
        op=operator,
        value=str(row.get("value")),
        url=canonical(value_set.get("url"), value_set.get("version")),
        system=resolved.url,
        known=known,
    )
