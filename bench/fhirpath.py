"""FHIRPath: what compiling and evaluating costs, beside plain Python written by hand for the same path.

python -m bench.fhirpath
"""

from __future__ import annotations

import timeit
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from profiles import model, ucum
from profiles.fhirpath import Environment, Expression, Node, compile

PATIENT: dict[str, Any] = {
    "resourceType": "Patient",
    "id": "1",
    "identifier": [{"system": "urn:oid:1", "value": "12345"}],
    "name": [
        {"use": "official", "family": "Chalmers", "given": ["Peter", "James"]},
        {"use": "usual", "given": ["Jim"]},
    ],
    "telecom": [{"system": "phone", "value": "1"}, {"system": "email", "value": "2"}],
    "gender": "male",
    "birthDate": "1974-12-25",
}
OBSERVATION: dict[str, Any] = {
    "resourceType": "Observation",
    "status": "final",
    "code": {"coding": [{"system": "http://loinc.org", "code": "29463-7"}]},
    "subject": {"reference": "Patient/1"},
    "effectiveDateTime": "2016-03-28",
    "valueQuantity": {"value": 185, "unit": "lbs", "system": "http://unitsofmeasure.org", "code": "[lb_av]"},
}


def _given(patient: dict[str, Any]) -> list[Any]:
    return [given for name in patient.get("name", ()) for given in name.get("given", ())]


def _family(patient: dict[str, Any]) -> list[Any]:
    return [name["family"] for name in patient.get("name", ()) if "family" in name]


def _birth_date(patient: dict[str, Any]) -> list[Any]:
    value = patient.get("birthDate")
    return [] if value is None else [value]


def _quantity(observation: dict[str, Any]) -> list[Any]:
    value = observation.get("valueQuantity")
    return [] if value is None else [value]


def _subject(observation: dict[str, Any]) -> list[Any]:
    subject = observation.get("subject")
    return [subject] if subject and subject.get("reference", "").split("/")[-2:-1] == ["Patient"] else []


# Expression, resource, the same by hand where that is a fair comparison.
ROWS: list[tuple[str, dict[str, Any], Callable[[dict[str, Any]], Any] | None]] = [
    ("Patient.birthDate", PATIENT, _birth_date),
    ("Patient.name.family", PATIENT, _family),
    ("Patient.name.given", PATIENT, _given),
    ("(Observation.value as Quantity)", OBSERVATION, _quantity),
    ("Observation.subject.where(resolve() is Patient)", OBSERVATION, _subject),
    ("Patient.telecom.where(system = 'phone')", PATIENT, None),
    ("Patient.name.given.count() > 2", PATIENT, None),
    ("Patient.birthDate < @2000-01-01", PATIENT, None),
    ("Observation.value > 80 'kg'", OBSERVATION, None),
    ("Patient.descendants().count()", PATIENT, None),
]


def _microseconds(run: Callable[[], Any]) -> float:
    timer = timeit.Timer(run)
    number, _ = timer.autorange()
    return min(timer.repeat(3, number)) / number * 1e6


def _each(expressions: Iterable[Expression], resource: Any) -> None:
    for expression in expressions:
        expression(resource)


def main() -> None:
    """Print the tables."""
    print(f"{'expression':50} {'µs':>7} {'by hand':>8} {'ratio':>6}")
    for text, resource, by_hand in ROWS:
        expression = compile(text)
        cost = _microseconds(partial(expression, resource))
        hand = _microseconds(partial(by_hand, resource)) if by_hand else None
        print(f"{text:50} {cost:7.2f} " + (f"{hand:8.2f} {cost / hand:6.1f}" if hand else ""))
    print()
    _search_parameters()
    _invariants()
    value = compile("Observation.value.value")(OBSERVATION)[0].value
    print(f"UCUM canonical, unit known: {_microseconds(lambda: ucum.exact(value, '[lb_av]')):.2f} µs")


def _search_parameters() -> None:
    rows = [p for p in model.SEARCH_PARAMETERS if p.expression]
    seconds = timeit.timeit(lambda: [Expression(p.expression, None, False) for p in rows], number=1)
    print(f"compile {len(rows)} search expressions: {seconds * 1000:.0f} ms")
    for resource in (PATIENT, OBSERVATION):
        kind = resource["resourceType"]
        own = [compile(p.expression) for p in rows if kind in p.bases or "Resource" in p.bases]
        cost = _microseconds(partial(_each, own, resource)) / len(own)
        print(f"{kind}: {len(own)} parameters, {cost:.2f} µs each")


def _invariants() -> None:
    rules = [compile(model.INVARIANTS[key].expression) for key in ("dom-2", "dom-3", "dom-4", "dom-5", "dom-6")]
    node, env = Node(PATIENT, "Patient"), Environment()
    cost = _microseconds(lambda: [rule(node, env) for rule in rules]) / len(rules)
    print(f"the {len(rules)} rules of DomainResource on a Patient: {cost:.2f} µs each")


if __name__ == "__main__":
    main()
