"""A search request is read: its parameters become a `Query` (http://hl7.org/fhir/R4/search.html)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from profiles import model
from profiles.outcome import FhirError, Issue
from search.asked import Include, Pair, Query, Reading, Sort, known_type, placed
from search.clauses import NEVER, Clause, Kinds, every, some
from search.controls import CONTROLS, MOST_COUNT
from search.params import Registry
from search.specials import criteria_of
from search.values import Around, split

MOST_VALUES = 1_000

# Read by the shell, not by the search; the last comes with every count of one widespread client and asks for nothing.
OTHERS = frozenset({"_format", "_pretty", "_totalMethod"})
INCLUDES = frozenset({"_include", "_revinclude"})
REPEATED = frozenset({"_elements", "_type", *(f"{i}{m}" for i in INCLUDES for m in ("", ":iterate", ":recurse"))})

# No resource can hold these: NUL, and halves of characters.
NO_TEXT = re.compile("[\x00\ud800-\udfff]")


def parse(
    resource_type: str | None,
    pairs: Sequence[Pair],
    registry: Registry,
    *,
    lenient: bool = False,
    compartment: tuple[str, str] | None = None,
    base: str = "",
    now: int | None = None,
    sizes: tuple[int, int] | None = None,
    blanks: bool = False,
) -> Query:
    """The query of a request; `resource_type` None is a search over all types.

    `compartment` is ("Patient", "123"); `base` is the server's own url, `now` the present in milliseconds since 1970;
    `sizes` of a page, when nothing is said and at most: what comes of them is then told as used.
    With `blanks`, parameters without a value are ignored with a warning, as a search does
    (http://hl7.org/fhir/R4/search.html#errors); a condition would grow wider by that, so elsewhere they are faults.
    Raises FhirError naming the parameter and the allowed choices.
    """
    said = [pair for pair in pairs if pair[0] not in OTHERS]
    asked = [pair for pair in said if pair[1] or not blanks]
    types = _types(resource_type, asked, registry, compartment)
    reading = Reading(types or (), Around(registry, base.rstrip("/"), now), lenient, types == ())
    reading.warnings += [_blank(name) for name, value in said if blanks and not value]
    for name, value in asked:
        _read(reading, name, value)
    where = _where(reading, compartment)
    if sizes is not None:
        reading.count = min(sizes[0] if reading.count is None else reading.count, sizes[1])
        reading.used = [*(pair for pair in reading.used if pair[0] != "_count"), ("_count", str(reading.count))]
    return Query(
        types=reading.types,
        where=where,
        used=tuple(reading.used),
        sort=reading.sort,
        count=reading.count,
        total=reading.total,
        summary=reading.summary,
        elements=reading.elements,
        includes=tuple(reading.includes),
        contained=reading.contained,
        contained_type=reading.contained_type,
        explain=reading.explain,
        warnings=tuple(reading.warnings),
        parameters=frozenset(reading.around.asked),
    )


def _blank(name: str) -> Issue:
    return Issue("warning", "invalid", f"Ignored: {name} has no value", (f"http.{name}",))


def _types(
    resource_type: str | None, pairs: Iterable[Pair], registry: Registry, compartment: tuple[str, str] | None
) -> tuple[str, ...] | None:
    """The types searched, sorted; None is all of them."""
    if resource_type is not None:
        known_type(resource_type)
        if compartment and not registry.in_compartment(compartment[0], resource_type):
            raise FhirError("not-supported", f"{resource_type} is not in the compartment of a {compartment[0]}")
        return (resource_type,)
    asked = [{_named_type(t) for t in value.split(",")} for name, value in pairs if name == "_type"]
    allowed = {t for t in model.RESOURCE_TYPES if not compartment or registry.in_compartment(compartment[0], t)}
    found = allowed.intersection(*asked)
    return None if not asked and not compartment else tuple(sorted(found))


def _named_type(name: str) -> str:
    try:
        return known_type(name)
    except FhirError as error:
        raise placed(error, "_type") from None


def _read(reading: Reading, name: str, value: str) -> None:
    control = CONTROLS.get(name.partition(":")[0])
    if control is not None:
        reading.attempt(name, value, lambda: control(_once(reading, name), name, value))
    else:
        reading.attempt(name, value, lambda: _check(reading, name, value))


def _once(reading: Reading, name: str) -> Reading:
    """Of two values of `_count` one would be ignored; `_include` and the like may be repeated."""
    if name not in REPEATED and any(name == used for used, _ in reading.used):
        raise FhirError("invalid", f"{name} is given more than once")
    if name.partition(":")[0] != name and name.partition(":")[0] not in INCLUDES:
        raise FhirError("invalid", f"{name}: {name.partition(':')[0]} has no modifiers")
    return reading


def _check(reading: Reading, name: str, value: str) -> None:
    """Understand a criterion once, so that a fault in it is known by its name."""
    if not value:
        raise FhirError("invalid", f"{name} has no value")
    if NO_TEXT.search(value):
        raise FhirError("invalid", f"{name}: the value holds characters that no resource can hold")
    if len(split(value, ",")) > MOST_VALUES:
        raise FhirError("too-costly", f"{name} has more than {MOST_VALUES} values; ask in several requests")
    criteria = criteria_of(reading.around)
    if name.startswith("_has:") and reading.types:
        reading.criteria.append(dict.fromkeys(reading.types, criteria.referred(reading.types, name, value)))
    else:
        reading.criteria.append({t: criteria.clause(t, name, value) for t in reading.types or (None,)})


def _where(reading: Reading, compartment: tuple[str, str] | None) -> Clause:
    """The condition: one for all types where it is the same, else one per type."""
    if reading.nothing:
        return NEVER
    types = reading.types or (None,)
    found: dict[Clause, list[str | None]] = {}
    for name in types:
        parts = [criterion[name] for criterion in reading.criteria]
        if compartment and name:
            parts.append(in_compartment(reading.around.registry, *compartment, name))
        found.setdefault(every(parts), []).append(name)
    if len(found) == 1:
        return next(iter(found))
    return some(every((Kinds(tuple(n for n in names if n)), clause)) for clause, names in found.items())


def in_compartment(registry: Registry, compartment: str, id_: str, type_name: str) -> Clause:
    """A resource of the type is in the compartment (http://hl7.org/fhir/R4/compartmentdefinition.html)."""
    return criteria_of(Around(registry)).compartment(compartment, id_, type_name)


__all__ = ["CONTROLS", "MOST_COUNT", "Include", "Query", "Sort", "in_compartment", "known_type", "parse", "placed"]
