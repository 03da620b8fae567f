"""Entries: their texts are in the order of their values, and every parameter of R4 writes one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from time import perf_counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiles import model
from profiles.outcome import FhirError
from search.clauses import after
from search.entries import MOST, compartment, entries
from search.params import TYPE_CODES, Parameter, Registry
from search.places import Route, Step
from search.specials import SPECIALS
from search.texts import EPOCH, LAST, bound, cut, fold, instant, instant_of, loose, number
from search.types.date import point
from search.values import span

REGISTRY = Registry.r4()

DECIMALS = st.decimals(allow_nan=False, allow_infinity=False, places=6, min_value=-(10**12), max_value=10**12)
INSTANTS = st.integers(-EPOCH, LAST - 1)


@given(DECIMALS | st.integers().map(Decimal), DECIMALS | st.integers(-100, 100).map(Decimal))
def test_numbers_keep_their_order(a: Decimal, b: Decimal) -> None:
    """The texts of two numbers compare as the numbers do, whatever way they are written."""
    assert (number(a) < number(b)) == (a < b) or len(a.as_tuple().digits) > 36
    plain = f"{a:f}"
    assert number(a) == number(Decimal(plain + ("0" if "." in plain else ".00")))


@given(INSTANTS, INSTANTS)
def test_instants_keep_their_order(a: int, b: int) -> None:
    """The texts of two instants compare as the instants do, and can be read back."""
    assert (instant(a) < instant(b)) == (a < b)
    assert instant_of(instant(a)) == a
    assert bound(a) <= instant(a)


@given(
    st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)), st.sampled_from([4, 7, 10, 19, 23]), st.integers(-14, 14)
)
def test_dates_begin_where_they_say(when: datetime, length: int, zone: int) -> None:
    """The text of a date of any precision and zone begins with the text of its first millisecond."""
    offset = "" if length < 19 else f"{'-' if zone < 0 else '+'}{abs(zone):02}:00"
    text = when.isoformat(timespec="milliseconds")[:length] + offset
    assert point(text)[:-1] == instant(span(text).low)[: len(point(text)) - 1]


@given(st.text(max_size=300))
def test_folding_is_done_once(text: str) -> None:
    """A folded string folds to itself, and an entry is never longer than its bound."""
    assert fold(fold(text)) == fold(text)
    assert loose(loose(text)) == loose(text)
    assert len(cut(fold(text))) <= 220


@given(st.text(min_size=1, max_size=10), st.text(max_size=10))
def test_after_is_above_all_that_begins_so(prefix: str, rest: str) -> None:
    """The upper bound of a prefix is above everything that starts with it, and only that."""
    if not any("\ud800" <= c <= "\udfff" for c in prefix + rest) and prefix.strip("\U0010ffff"):
        assert prefix + rest < after(prefix)
        assert not after(prefix).startswith(prefix)


def test_a_typical_observation_has_few_short_entries() -> None:
    """One per value, none per alias (docs/search.md)."""
    vital = {
        "resourceType": "Observation",
        "id": "1",
        "status": "final",
        "category": [
            {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "v"}]}
        ],
        "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
        "subject": {"reference": "Patient/123"},
        "effectiveDateTime": "2020-02-29T12:30:00+01:00",
        "valueQuantity": {"value": 72, "system": "http://unitsofmeasure.org", "code": "/min"},
    }
    found = entries(vital, REGISTRY)
    assert len(found) == 10
    assert sum(map(len, found)) < 200
    assert found == sorted(set(found))


def test_the_compartment_is_the_patient() -> None:
    """`p` names the patient a resource belongs to, itself where there is none (docs/storage.md)."""
    assert compartment({"resourceType": "Patient", "id": "1"}) == "Patient/1"
    assert compartment({"resourceType": "Organization", "id": "o"}) == "Organization/o"
    observation = {"resourceType": "Observation", "id": "x", "subject": {"reference": "http://here/Patient/7"}}
    assert compartment(observation, local_base="http://here") == "Patient/7"
    assert compartment({**observation, "subject": {"reference": "Group/g"}}) == "Observation/x"
    linked = {"resourceType": "Appointment", "id": "a", "participant": [{"actor": {"reference": "Patient/8"}}]}
    assert compartment(linked) == "Patient/8"


def test_too_many_values_are_refused() -> None:
    """A resource with a hundred thousand identifiers is 422, not a burden on every later search (attack P21)."""
    many = {"resourceType": "Patient", "id": "1", "identifier": [{"value": str(n)} for n in range(MOST + 1)]}
    with pytest.raises(FhirError) as caught:
        entries(many, REGISTRY)
    assert (caught.value.code, caught.value.status) == ("too-long", 422)


def test_keys_are_told_apart() -> None:
    """No two places of R4 share a key, and the codes of types differ."""
    places: dict[str, set[tuple[str, str, str]]] = {}
    for kind in sorted(model.RESOURCE_TYPES):
        for parameter in REGISTRY.of(kind):
            for atom in parameter.atoms:
                owner = "" if atom.key.startswith("__") else kind
                form = "".join(c.expression for c in parameter.components)
                places.setdefault(atom.key, set()).add((owner, atom.kind, atom.place.name + form))
    assert [p for p in places.values() if len(p) > 1] == []
    assert len(set(TYPE_CODES.values())) == len(model.RESOURCE_TYPES) == 146


def test_aliases_share_their_entries() -> None:
    """`patient` asks for the entries of `subject`, `combo-code` for those of `code` and of `component-code`."""

    def keys(code: str) -> set[str]:
        found = REGISTRY.lookup("Observation", code)
        assert found is not None
        return set(found.keys)

    assert keys("patient") == keys("subject")
    assert keys("combo-code") == keys("code") | keys("component-code")
    assert keys("combo-code-value-quantity") == keys("code-value-quantity") | keys("component-code-value-quantity")


VALUES: dict[str, Any] = {
    "string": "x",
    "markdown": "x",
    "code": "x",
    "id": "x",
    "uri": "http://x",
    "url": "http://x",
    "canonical": "http://x",
    "boolean": True,
    "integer": 1,
    "positiveInt": 1,
    "unsignedInt": 1,
    "decimal": Decimal("1.5"),
    "date": "2020-01-01",
    "dateTime": "2020-01-01",
    "instant": "2020-01-01T00:00:00Z",
    "Coding": {"code": "x"},
    "CodeableConcept": {"coding": [{"code": "x"}]},
    "Identifier": {"value": "x"},
    "ContactPoint": {"value": "x"},
    "Reference": {"reference": "Patient/1"},
    "Period": {"start": "2020"},
    "Timing": {"event": ["2020-01-01T00:00:00Z"]},
    "Quantity": {"value": 1},
    "Money": {"value": 1},
    "Age": {"value": 1},
    "Duration": {"value": 1},
    "Range": {"low": {"value": 1}},
    "SampledData": {"data": "1"},
    "Resource": {"resourceType": "Composition", "id": "x"},
    "Location.position": {"latitude": 1, "longitude": 1},
    "Extension": {"valueString": "x"},
    "Attachment": {"url": "http://x"},
}


def built(kind: str, route: Route, value: Any) -> dict[str, Any]:
    """The smallest resource that has the value at the end of the route."""
    for step in reversed(route.steps):
        value = {step.name: _tested(step, value)}
    return {"resourceType": kind, "id": "x", **(value if isinstance(value, dict) and route.steps else {})}


def _tested(step: Step, value: Any) -> Any:
    many = bool(step.tests) or step.name == "coding"
    for test in step.tests:
        if test.how == "equals":
            value = {**value, test.name: test.values[0]}
        elif test.how == "extension":
            value = {**value, "url": test.values[0]}
        elif test.how == "has-extension":
            value = {**value, "extension": [{"url": test.values[0]}]}
    return [value] if many else value


CODED = {"coding": [{"code": "x"}]}
REFERENCE_SEQ = {"chromosome": CODED, "referenceSeqId": CODED, "windowStart": 1, "windowEnd": 2}


def example_of(parameter: Parameter) -> list[dict[str, Any]]:
    """Resources with a value for a parameter, one per place and type it can have."""
    routes = [(atom, route) for atom in parameter.atoms for route in atom.place.routes]
    return [_example(parameter, atom.kind, route) for atom, route in routes]


def _example(parameter: Parameter, kind: str, route: Route) -> dict[str, Any]:
    if kind != "composite":
        return built(parameter.base, route, VALUES.get(route.type, {}))
    element: dict[str, Any] = {}
    for part in (c.atoms[0].place.routes[0] for c in parameter.components):
        inner = built("", part, VALUES[part.type])
        element |= {name: value for name, value in inner.items() if name not in ("resourceType", "id")}
    if parameter.base == "MolecularSequence":
        whole = built(parameter.base, route, element | REFERENCE_SEQ)
        return {"referenceSeq": REFERENCE_SEQ, **whole}
    return built(parameter.base, route, element) if route.steps else {**built(parameter.base, route, {}), **element}


def test_every_parameter_is_written() -> None:
    """All 1,375 parameters of R4 and two more: a value at their place becomes an entry under their key."""
    urls, missing = set(), []
    for kind in sorted(model.RESOURCE_TYPES):
        for parameter in REGISTRY.of(kind):
            urls.add(parameter.url)
            if parameter.code in SPECIALS:
                continue
            written = {e[:5] for r in example_of(parameter) for e in entries(r, REGISTRY)}
            if not written.intersection(parameter.keys):
                missing.append(f"{kind}.{parameter.code}")
    assert missing == []
    assert len(urls) == 1_375 + 2


def test_words_of_many_digits_cost_one_look() -> None:
    """A number of 200,000 digits in a text is passed over, in milliseconds."""
    resource = {"resourceType": "Condition", "id": "x", "note": [{"text": "7" * 200_000 + " bone"}]}
    start = perf_counter()
    assert "__~w:bone" in entries(resource, REGISTRY)
    assert perf_counter() - start < 2


def test_times_are_utc() -> None:
    """A time zone shifts the day; none means UTC."""
    assert span("2020-01-01T00:30:00+01:00").low == span("2019-12-31T23:30:00Z").low
    day = datetime(2020, 1, 1, tzinfo=UTC)
    assert span("2020-01-01").low == int(day.timestamp() * 1000)
    assert span("2020-01-01").high == int((day + timedelta(days=1)).timestamp() * 1000)
