"""All functions by name; a new one is a function in its family's file and a row in that file's table."""

from __future__ import annotations

from profiles.fhirpath.functions import (
    aggregates,
    conversion,
    dates,
    existence,
    fhir,
    filtering,
    math,
    sets,
    strings,
    utility,
)
from profiles.fhirpath.functions.row import Function

FUNCTIONS: dict[str, Function] = {
    **existence.FUNCTIONS,
    **filtering.FUNCTIONS,
    **sets.FUNCTIONS,
    **conversion.FUNCTIONS,
    **strings.FUNCTIONS,
    **math.FUNCTIONS,
    **utility.FUNCTIONS,
    **dates.FUNCTIONS,
    **aggregates.FUNCTIONS,
    **fhir.FUNCTIONS,
}

__all__ = ["FUNCTIONS", "Function"]
