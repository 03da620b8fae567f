"""Building through the typed models of fhir.resources, which refuse what is not a resource."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from functools import cache
from typing import Any

import msgspec
from fhir.resources.R4B import get_fhir_model_class

from seed.elements import Json, plain

_DECODE = msgspec.json.Decoder(float_hook=Decimal).decode


@cache
def _model(resource_type: str) -> Any:
    return get_fhir_model_class(resource_type)


def build(resource: Json) -> Json:
    """The resource as its model reads and writes it; raises pydantic.ValidationError.

    The models are those of R4B: of the resources used here none differs from R4 4.0.1, and the tests
    check every one against the 4.0.1 definitions.
    """
    model = _model(resource["resourceType"]).model_validate(plain(resource))
    built: Json = _DECODE(model.model_dump_json())
    return built


def build_all(resources: Iterable[Json]) -> list[Json]:
    """Every resource built, in order."""
    return [build(resource) for resource in resources]
