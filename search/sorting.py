"""`_sort` as keys of an order (http://hl7.org/fhir/R4/search.html#sort)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from profiles.outcome import FhirError
from search.asked import Hop, Reading, Sort
from search.params import Parameter
from search.specials import criteria_of

MOST_SORT = 3
MOST_HOPS = 3
UNSORTABLE = ("composite", "special", "sound")


def read_sort(reading: Reading, name: str, value: str) -> None:
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
    found: list[Hop] = []
    first: FhirError | None = None
    for name in types:
        try:
            pairs = criteria_of(reading.around).targets(name, head)
        except FhirError as error:
            first = first or error
        else:
            found += [(parameter.keys, target) for parameter, target in pairs]
    if not found:
        raise first or FhirError("invalid", f"_sort: {head} leads nowhere")
    return tuple(dict.fromkeys(found))
