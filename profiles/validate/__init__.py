"""Validation of resources (http://hl7.org/fhir/R4/validation.html): `check` on every write, `validate` in full."""

from __future__ import annotations

from typing import Any

from profiles.outcome import Issue
from profiles.validate.explain import resource_faults
from profiles.validate.fast import surely_valid, warm
from profiles.validate.full import validate
from profiles.validate.library import Library, Shelf
from profiles.validate.places import with_expressions, with_places
from profiles.validate.report import Options
from profiles.validate.snapshot import generate

__all__ = ["Library", "Options", "Shelf", "check", "generate", "validate", "warm", "with_expressions", "with_places"]


def check(resource: Any, expected_type: str | None = None) -> list[Issue]:
    """Every fault against the base definitions: structure, cardinality, formats, choices, required bindings."""
    if surely_valid(resource) and (expected_type is None or resource["resourceType"] == expected_type):
        return []
    return list(resource_faults(resource, expected=expected_type))
