"""The parameters that shape an answer, one row each (http://hl7.org/fhir/R4/search.html#return)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from profiles import model
from profiles.outcome import FhirError
from search.asked import Include, Reading, known_type
from search.params import Parameter
from search.sorting import read_sort

MOST_COUNT = 1_000

SUMMARIES = ("true", "text", "data", "count", "false")
TOTALS = ("none", "estimate", "accurate")


def _choice(name: str, value: str, choices: Sequence[str]) -> str:
    if value not in choices:
        raise FhirError("invalid", f"{name} is one of {', '.join(choices)}, not {value!r}")
    return value


def _count(reading: Reading, name: str, value: str) -> None:
    if not value.isascii() or not value.isdigit() or len(value) > 9:
        raise FhirError("invalid", f"_count is a whole number from 0 on, not {value!r}")
    reading.count = min(int(value), MOST_COUNT)


def _total(reading: Reading, name: str, value: str) -> None:
    reading.total = _choice(name, value, TOTALS)


def _summary(reading: Reading, name: str, value: str) -> None:
    summary = _choice(name, value, SUMMARIES)
    _unmixed(summary, reading.includes)
    reading.summary = summary


def _unmixed(summary: str | None, includes: Sequence[object]) -> None:
    """Includes cannot be mixed with `_summary=text` (http://hl7.org/fhir/R4/search.html#summary)."""
    if summary == "text" and includes:
        raise FhirError("invalid", "_include and _revinclude cannot be mixed with _summary=text")


def _elements(reading: Reading, name: str, value: str) -> None:
    names = tuple(n.strip() for n in value.split(","))
    types = reading.types or ("DomainResource",)
    for text in names:
        kind, _, rest = text.partition(".")
        path = rest if kind in model.RESOURCE_TYPES else text
        known = any(model.element(t, path.partition(".")[0]) for t in types)
        if not known:
            raise FhirError("invalid", f"_elements: {text!r} is not an element of {', '.join(types)}")
    reading.elements = (*reading.elements, *names)


def _include(reading: Reading, name: str, value: str) -> None:
    head, _, modifier = name.partition(":")
    if modifier not in ("", "iterate", "recurse"):
        raise FhirError("invalid", f"{name}: the only modifier of {head} is iterate")
    _unmixed(reading.summary, (value,))
    iterate = bool(modifier)
    reverse = head == "_revinclude"
    if value == "*":
        sources = reading.types or tuple(sorted(model.RESOURCE_TYPES))
        if reverse:
            sources = tuple(sorted(model.RESOURCE_TYPES))
        reading.includes += [Include(s, _references(reading, s), "", iterate, reverse) for s in sources]
        return
    source, _, rest = value.partition(":")
    code, _, target = rest.partition(":")
    known_type(source)
    if target:
        known_type(target)
    parameters = _references(reading, source)
    if code != "*":
        chosen = tuple(p for p in parameters if p.code == code)
        if not chosen:
            known = ", ".join(p.code for p in parameters)
            raise FhirError("invalid", f"{name}: {source} has no reference parameter {code!r}; one of {known}")
        parameters = chosen
    reading.around.asked.update(p.url for p in parameters)
    reading.includes.append(Include(source, parameters, target, iterate, reverse))


def _references(reading: Reading, type_name: str) -> tuple[Parameter, ...]:
    return tuple(p for p in reading.around.registry.of(type_name) if p.type == "reference" and p.atoms)


def _contained(reading: Reading, name: str, value: str) -> None:
    reading.contained = _choice(name, value, ("false", "true", "both"))


def _contained_type(reading: Reading, name: str, value: str) -> None:
    reading.contained_type = _choice(name, value, ("container", "contained"))


def _explain(reading: Reading, name: str, value: str) -> None:
    reading.explain = _choice(name, value, ("true", "false")) == "true"


def _type(reading: Reading, name: str, value: str) -> None:
    """Read before the rest (`_types`); here only its place in a search that already has a type."""
    if len(reading.types) == 1 and reading.types[0] not in value.split(","):
        raise FhirError("invalid", f"_type: this search is already on {reading.types[0]}")


CONTROLS: dict[str, Callable[[Reading, str, str], None]] = {
    "_count": _count,
    "_sort": read_sort,
    "_total": _total,
    "_summary": _summary,
    "_elements": _elements,
    "_include": _include,
    "_revinclude": _include,
    "_contained": _contained,
    "_containedType": _contained_type,
    "_explain": _explain,
    "_type": _type,
}
