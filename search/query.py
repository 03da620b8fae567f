"""A search request as plain data (http://hl7.org/fhir/R4/search.html): its clauses, its order, what to send along."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from profiles import model
from profiles.outcome import FhirError, Issue
from search.clauses import NEVER, Clause, Kinds, every, some
from search.criteria import Criteria
from search.params import Parameter, Registry
from search.values import Around, split

MOST_COUNT = 1_000
MOST_SORT = 3
MOST_HOPS = 3
MOST_VALUES = 1_000

# Read by the shell, not by the search; the last comes with every count of one widespread client and asks for nothing.
OTHERS = frozenset({"_format", "_pretty", "_totalMethod"})
SUMMARIES = ("true", "text", "data", "count", "false")
TOTALS = ("none", "estimate", "accurate")
INCLUDES = frozenset({"_include", "_revinclude"})
REPEATED = frozenset({"_elements", "_type", *(f"{i}{m}" for i in INCLUDES for m in ("", ":iterate", ":recurse"))})
UNSORTABLE = ("composite", "special", "sound")

# No resource can hold these: NUL, and halves of characters.
NO_TEXT = re.compile("[\x00\ud800-\udfff]")

Pair = tuple[str, str]


Hop = tuple[tuple[str, ...], str]


@dataclass(frozen=True, slots=True)
class Sort:
    """One key of the order: a parameter, or `_id` or `_lastUpdated` where `parameter` is None.

    `hops` lead to the resource that has the value, for `patient.family`: each the (keys, target type) it may go by.
    """

    code: str
    descending: bool = False
    parameter: Parameter | None = None
    hops: tuple[tuple[Hop, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Include:
    """`_include` or `_revinclude`: `parameters` on `source` (all for `*`), only to `target` where it is given."""

    source: str
    parameters: tuple[Parameter, ...]
    target: str = ""
    iterate: bool = False
    reverse: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked for; `used` are the parameters that were understood, for the self link."""

    types: tuple[str, ...]
    where: Clause
    used: tuple[Pair, ...] = ()
    sort: tuple[Sort, ...] = ()
    count: int | None = None
    total: str | None = None
    summary: str | None = None
    elements: tuple[str, ...] = ()
    includes: tuple[Include, ...] = ()
    contained: str = "false"
    contained_type: str = "container"
    explain: bool = False
    warnings: tuple[Issue, ...] = ()
    parameters: frozenset[str] = frozenset()  # urls of the search parameters that were used

    @property
    def clauses(self) -> Clause:
        """The condition with the types it speaks of."""
        return every((Kinds(self.types), self.where)) if self.types else self.where


@dataclass(slots=True)
class Reading:
    """A query while it is read."""

    types: tuple[str, ...]
    around: Around
    lenient: bool
    nothing: bool = False  # no type is left to look at
    criteria: list[dict[str | None, Clause]] = field(default_factory=list)  # per type searched
    used: list[Pair] = field(default_factory=list)
    warnings: list[Issue] = field(default_factory=list)
    sort: tuple[Sort, ...] = ()
    count: int | None = None
    total: str | None = None
    summary: str | None = None
    elements: tuple[str, ...] = ()
    includes: list[Include] = field(default_factory=list)
    contained: str = "false"
    contained_type: str = "container"
    explain: bool = False

    def attempt(self, name: str, value: str, step: Callable[[], None]) -> None:
        """Read one parameter; with lenient handling a fault becomes a warning and the parameter is left out."""
        try:
            step()
        except FhirError as error:
            fault = placed(error, name)
            if not self.lenient:
                raise fault from None
            self.warnings += [Issue("warning", i.code, f"Ignored: {i.text}", i.expression) for i in fault.issues]
        else:
            self.used.append((name, value))


def placed(error: FhirError, name: str) -> FhirError:
    """The error with the parameter's name in its text and place."""
    issues = [
        i
        if i.expression
        else Issue(i.severity, i.code, i.text if name in i.text else f"{name}: {i.text}", (f"http.{name}",))
        for i in error.issues
    ]
    return FhirError.of(issues, status=error.status)


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
) -> Query:
    """The query of a request; `resource_type` None is a search over all types.

    `compartment` is ("Patient", "123"); `base` is the server's own url, `now` the present in milliseconds since 1970;
    `sizes` of a page, when nothing is said and at most: what comes of them is then told as used.
    Raises FhirError naming the parameter and the allowed choices.
    """
    types = _types(resource_type, pairs, registry, compartment)
    reading = Reading(types or (), Around(registry, base.rstrip("/"), now), lenient, types == ())
    for name, value in pairs:
        if name not in OTHERS:
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


def known_type(name: str) -> str:
    """The name, when it is a resource type; FhirError otherwise."""
    if name not in model.RESOURCE_TYPES:
        raise FhirError("invalid", f"{name!r} is not a resource type of FHIR R4")
    return name


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
    criteria = Criteria(reading.around)
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
    return Criteria(Around(registry)).compartment(compartment, id_, type_name)


# Controls: one row per result parameter of http://hl7.org/fhir/R4/search.html#return


def _choice(name: str, value: str, choices: Sequence[str]) -> str:
    if value not in choices:
        raise FhirError("invalid", f"{name} is one of {', '.join(choices)}, not {value!r}")
    return value


def _count(reading: Reading, name: str, value: str) -> None:
    if not value.isascii() or not value.isdigit() or len(value) > 9:
        raise FhirError("invalid", f"_count is a whole number from 0 on, not {value!r}")
    reading.count = min(int(value), MOST_COUNT)


def _sort(reading: Reading, name: str, value: str) -> None:
    keys = value.split(",")
    if len(keys) > MOST_SORT:
        raise FhirError("too-costly", f"_sort takes at most {MOST_SORT} keys")
    reading.sort = tuple(_sort_key(reading, key.strip()) for key in keys)


def _sort_key(reading: Reading, text: str) -> Sort:
    descending, code = text.startswith("-"), text.removeprefix("-")
    if code in ("_id", "_lastUpdated", "_score"):
        return Sort(code, descending)
    if "." in code:
        return _linked_sort(reading, code, descending)
    registry = reading.around.registry
    names = reading.types or ("Resource",)
    found = [p for name in names if (p := registry.lookup(name, code)) and p.type not in UNSORTABLE and p.atoms]
    if len(found) < len(names) or len({p.type for p in found}) > 1:
        codes = [{p.code for p in registry.of(name) if p.type not in UNSORTABLE and p.atoms} for name in names]
        choices = ", ".join(["_id", "_lastUpdated", *sorted(set.intersection(*codes))])
        raise FhirError("invalid", f"_sort: {', '.join(names)} cannot be sorted by {code!r}; one of {choices}")
    reading.around.asked.update(p.url for p in found)
    return Sort(code, descending, _together(found))


def _together(found: Sequence[Parameter]) -> Parameter:
    """Parameters of several types as one, with the places of all."""
    first, *more = found
    return replace(first, atoms=(*first.atoms, *(a for p in more for a in p.atoms))) if more else first


def _linked_sort(reading: Reading, code: str, descending: bool) -> Sort:
    """`patient.family`: the order of what a reference leads to, of every type it may be to that has the parameter."""
    *heads, last = code.split(".")
    if len(heads) > MOST_HOPS:
        raise FhirError("too-costly", f"_sort: {code} goes over more than {MOST_HOPS} references")
    types: tuple[str | None, ...] = reading.types or (None,)
    hops: list[tuple[Hop, ...]] = []
    for head in heads:
        hops.append(_hop(reading, types, head))
        types = tuple(dict.fromkeys(target for _, target in hops[-1]))
    registry = reading.around.registry
    found = {t: p for t in types if t and (p := registry.lookup(t, last)) and p.type not in UNSORTABLE and p.atoms}
    if len({p.type for p in found.values()}) != 1:
        problem = "means several things" if found else "leads nowhere"
        raise FhirError("invalid", f"_sort: {code} {problem}; {heads[-1]} refers to {', '.join(t for t in types if t)}")
    hops[-1] = tuple(hop for hop in hops[-1] if hop[1] in found)
    reading.around.asked.update(p.url for p in found.values())
    return Sort(code, descending, _together(list(found.values())), tuple(hops))


def _hop(reading: Reading, types: Sequence[str | None], head: str) -> tuple[Hop, ...]:
    """The ways a reference parameter leads on from resources of these types."""
    code, _, kind = head.partition(":")
    found: list[Hop] = []
    first: FhirError | None = None
    for name in types:
        try:
            pairs = Criteria(reading.around).targets(name, code, kind)
        except FhirError as error:
            first = first or error
        else:
            found += [(parameter.keys, target) for parameter, target in pairs]
    if not found:
        raise first or FhirError("invalid", f"_sort: {head} leads nowhere")
    return tuple(dict.fromkeys(found))


def _total(reading: Reading, name: str, value: str) -> None:
    reading.total = _choice(name, value, TOTALS)


def _summary(reading: Reading, name: str, value: str) -> None:
    reading.summary = _choice(name, value, SUMMARIES)


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
    if len(reading.types) == 1 and value != reading.types[0]:
        raise FhirError("invalid", f"_type: this search is already on {reading.types[0]}")


CONTROLS: dict[str, Callable[[Reading, str, str], None]] = {
    "_count": _count,
    "_sort": _sort,
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

__all__ = ["CONTROLS", "Include", "Query", "Sort", "in_compartment", "known_type", "parse"]
