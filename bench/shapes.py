"""The searches that `bench.search` measures: a row each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.mix import MRN, Sample

Pairs = list[tuple[str, str]]


@dataclass(frozen=True)
class Shape:
    """One of the searches; `pairs` makes the query with the n-th values, `selective` ones find as much at any size."""

    name: str
    type: str
    pairs: Callable[[Sample, int], Pairs]
    selective: bool = False


CODES = ("8867-4", "8310-5", "29463-7", "8302-2")
SHAPES = (
    Shape("identifier", "Patient", lambda s, n: [("identifier", f"{MRN}|{s.mrn(n)}")], True),
    Shape("name prefix", "Patient", lambda s, n: [("family", s.family(n)[:6])], True),
    Shape("name :contains", "Patient", lambda s, n: [("family:contains", s.family(n)[2:8])]),
    Shape(
        "patient + code",
        "Observation",
        lambda s, n: [("patient", s.patient(n)), ("code", f"http://loinc.org|{CODES[n % 4]}")],
        True,
    ),
    Shape(
        "code + date range",
        "Observation",
        lambda s, n: [
            ("code", "http://loinc.org|8867-4"),
            ("date", f"ge202{3 + n % 3}-0{1 + n % 8}"),
            ("date", f"lt202{3 + n % 3}-0{2 + n % 8}"),
        ],
    ),
    Shape(
        "code + value range",
        "Observation",
        lambda s, n: [("code-value-quantity", f"http://loinc.org|8867-4$gt{90 + n % 9}")],
    ),
    Shape(
        "_has",
        "Patient",
        lambda s, n: [("_has:Observation:patient:code", "http://loinc.org|8867-4"), ("family", s.family(n)[:6])],
        True,
    ),
    Shape("two-step chain", "Observation", lambda s, n: [("encounter.patient.family", s.family(n))], True),
    Shape(
        "_include",
        "Observation",
        lambda s, n: [
            ("patient", s.patient(n)),
            ("_include", "Observation:subject"),
            ("_include", "Observation:encounter"),
        ],
        True,
    ),
    Shape("sort, newest first", "Observation", lambda s, n: [("patient", s.patient(n)), ("_sort", "-date")], True),
    Shape("sort, whole type", "Observation", lambda s, n: [("_sort", "-date"), ("_count", "10")]),
    Shape("_lastUpdated, newest", "Observation", lambda s, n: [("_sort", "-_lastUpdated"), ("_count", "10")]),
    Shape("token :below", "Condition", lambda s, n: [("code:below", "http://hl7.org/fhir/sid/icd-10-cm|E11")]),
    Shape("_text", "Condition", lambda s, n: [("_text", "diabetes")]),
    Shape("near", "Location", lambda s, n: [("near", "42.36|-71.06|10|km")], True),
    Shape(
        "blood pressure",
        "Observation",
        lambda s, n: [
            ("component-code-value-quantity", f"8480-6$gt{150 + n % 9}"),
            ("component-code-value-quantity", "8462-4$gt90"),
        ],
    ),
    Shape("_total=accurate", "Observation", lambda s, n: [("code", "http://loinc.org|8867-4"), ("_total", "accurate")]),
    Shape(
        "_filter", "Patient", lambda s, n: [("_filter", f'family sw "{s.family(n)[:5]}" and birthdate lt 1990')], True
    ),
    Shape(":missing", "Patient", lambda s, n: [("birthdate:missing", "true")]),
    Shape(
        "1,000 values",
        "Patient",
        lambda s, n: [("identifier", ",".join(f"{MRN}|{s.mrn(i * 31 + n)}" for i in range(1000)))],
    ),
    Shape("_content", "Condition", lambda s, n: [("_content", "hypertension")]),
)
