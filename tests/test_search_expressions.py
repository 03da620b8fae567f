"""Stored SearchParameters whose values only FHIRPath can tell: what functions give, and where an expression fails."""

from __future__ import annotations

from typing import Any

import pytest

from search.defining import faults
from search.entries import entries
from search.matches import matches
from search.params import Registry
from search.query import parse

ANN: dict[str, Any] = {
    "resourceType": "Patient",
    "id": "ann",
    "active": True,
    "birthDate": "1950-01-02",
    "name": [{"family": "Ross", "given": ["Ann", "Bea"]}, {"family": "Poe"}],
}
# Search type, expression, a value that finds her and one that does not.
FUNCTIONS = (
    ("number", "Patient.name.given.count()", "2", "3"),
    ("number", "Patient.name.given.count() / 4", "0.5", "0.6"),
    ("token", "Patient.photo.exists()", "false", "true"),
    ("string", "Patient.name.first().given.first() & '-' & Patient.name.first().family", "ann-ross", "bea"),
    ("date", "Patient.birthDate + 18 years", "1968-01-02", "1950"),
    ("quantity", "iif(Patient.active, 5 'mg', 7 'mg')", "0.005|http://unitsofmeasure.org|g", "7"),
)


def stored(type: str, expression: str) -> Registry:
    """R4 with a parameter more, which is without fault."""
    row = {"resourceType": "SearchParameter", "url": "http://example.org/x", "name": "x", "status": "active"}
    row |= {"description": "x", "code": "x", "base": ["Patient"], "type": type, "expression": expression}
    assert faults(row, Registry.r4()) == []
    return Registry.r4().with_parameters([row])


def finds(registry: Registry, name: str, value: str) -> bool:
    query = parse("Patient", [(name, value)], registry, now=0)
    return matches(query.clauses, entries(ANN, registry), ANN)


@pytest.mark.parametrize(("type", "expression", "hit", "miss"), FUNCTIONS)
def test_what_functions_give_is_found(type: str, expression: str, hit: str, miss: str) -> None:
    """Their results have types of FHIRPath's own, which count as those of elements."""
    registry = stored(type, expression)
    assert finds(registry, "x", hit)
    assert not finds(registry, "x", miss)


@pytest.mark.parametrize("expression", ["Patient.name.single().family", "Patient.name.where(given).family"])
def test_where_an_expression_fails_there_is_no_value(expression: str) -> None:
    """It is no fault of the resource, which can be stored and is found by everything else."""
    registry = stored("string", expression)
    assert finds(registry, "x:missing", "true")
    assert not finds(registry, "x", "ross")
    assert finds(registry, "family", "ross")
