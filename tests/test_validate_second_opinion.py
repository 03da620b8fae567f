"""A second opinion: what fhir.resources refuses, the check refuses too."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from fhir.resources.R4B import get_fhir_model_class
from pydantic import ValidationError

from profiles.json import encode
from profiles.validate import check
from tests import official
from tests.test_validate_faults import FAULTS, places

# Types whose R4B model is that of R4.
TYPES = ("Patient", "Observation", "Questionnaire", "Medication", "Encounter", "Condition", "Claim")


def refused(resource: dict[str, Any]) -> bool:
    try:
        get_fhir_model_class(resource["resourceType"]).model_validate_json(encode(resource))
    except (ValidationError, TypeError, ValueError):
        return True
    return False


@pytest.mark.parametrize("type_name", TYPES)
def test_what_fhir_resources_refuses_is_refused(type_name: str) -> None:
    """Every kind of fault at every eleventh place of an example; never a fault that only the other one sees."""
    example = next(r for r in official.resources() if r["resourceType"] == type_name and len(encode(r)) < 6000)
    assert not refused(example)
    for inject in FAULTS:
        for number in range(0, len(list(places(example, type_name, type_name))), 11):
            broken = copy.deepcopy(example)
            parent, key, place, field = list(places(broken, type_name, type_name))[number]
            if inject(parent, key, field) and refused(broken):
                assert check(broken), (inject.__name__, place)
