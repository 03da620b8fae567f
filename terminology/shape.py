"""Whether a definition sent along has the shape that is read here: a malformed one is told, not tripped over."""

from __future__ import annotations

from typing import Any

from profiles.outcome import FhirError
from terminology.concepts import Json

# Element -> what its items hold: a text, an object, a list of them, `...` the same again, None anything.
_TEXT = ""
_VALUE: Any = None
_EXTENSION: Json = {"url": _TEXT, "extension": [_VALUE]}
_DESIGNATION: Json = {
    "value": _TEXT,
    "language": _TEXT,
    "use": {"code": _TEXT, "system": _TEXT},
    "extension": [_EXTENSION],
}
_PROPERTY: Json = {"code": _TEXT, "uri": _TEXT, "type": _TEXT}
_CONCEPT: Json = {
    "code": _TEXT,
    "display": _TEXT,
    "definition": _TEXT,
    "designation": [_DESIGNATION],
    "property": [_PROPERTY],
    "extension": [_EXTENSION],
    "concept": [...],
}
_INCLUDE: Json = {
    "system": _TEXT,
    "version": _TEXT,
    "concept": [{"code": _TEXT, "display": _TEXT, "designation": [_DESIGNATION], "extension": [_EXTENSION]}],
    "filter": [{"property": _TEXT, "op": _TEXT, "value": _TEXT}],
    "valueSet": [_TEXT],
}
_CONTAINS: Json = {"system": _TEXT, "version": _TEXT, "code": _TEXT, "display": _TEXT, "contains": [...]}
_TARGET: Json = {
    "code": _TEXT,
    "equivalence": _TEXT,
    "relationship": _TEXT,
    "dependsOn": [{"property": _TEXT}],
    "product": [{"property": _TEXT}],
}
_NAMED: Json = {"url": _TEXT, "version": _TEXT, "language": _TEXT, "status": _TEXT, "extension": [_EXTENSION]}
SHAPES: dict[str, Json] = {
    "CodeSystem": _NAMED | {"content": _TEXT, "supplements": _TEXT, "property": [_PROPERTY], "concept": [_CONCEPT]},
    "ValueSet": _NAMED
    | {
        "compose": {"include": [_INCLUDE], "exclude": [_INCLUDE], "extension": [_EXTENSION]},
        "expansion": {"contains": [_CONTAINS]},
        "contained": [{"resourceType": _TEXT, "id": _TEXT}],
    },
    "ConceptMap": _NAMED
    | {
        "group": [
            {
                "source": _TEXT,
                "target": _TEXT,
                "element": [{"code": _TEXT, "target": [_TARGET]}],
                "unmapped": {"mode": _TEXT, "code": _TEXT, "url": _TEXT},
            }
        ]
    },
}


_CODING: Json = {"system": _TEXT, "version": _TEXT, "code": _TEXT, "display": _TEXT}
VALUES: dict[str, Json] = {"valueCoding": _CODING, "valueCodeableConcept": {"coding": [_CODING], "text": _TEXT}}


def check_values(rows: list[Json]) -> None:
    """FhirError where a coding among parameters is not one."""
    for number, row in enumerate(rows):
        place = f"Parameters.parameter[{number}]"
        _item(row, {**VALUES, "name": _TEXT, "resource": {}}, place)


def check_shape(resource: Json) -> None:
    """FhirError with the place of the first element that is not what it should be."""
    kind = resource.get("resourceType")
    shape = SHAPES.get(str(kind))
    if shape is None:
        raise FhirError("invalid", f"A {kind} cannot be sent along; {', '.join(SHAPES)} can")
    _check(resource, shape, str(kind))


def _check(value: Json, shape: Json, place: str) -> None:
    for name, wanted in shape.items():
        if name not in value:
            continue
        given, where = value[name], f"{place}.{name}"
        if isinstance(wanted, list):
            if not isinstance(given, list):
                raise FhirError("structure", f"{where} must be a list", where)
            item = shape if wanted[0] is ... else wanted[0]
            for number, each in enumerate(given):
                _item(each, item, f"{where}[{number}]")
        else:
            _item(given, wanted, where)


def _item(given: Any, wanted: Any, place: str) -> None:
    if isinstance(wanted, dict):
        if not isinstance(given, dict):
            raise FhirError("structure", f"{place} must be an object", place)
        _check(given, wanted, place)
    elif wanted is not None and not isinstance(given, str):
        raise FhirError("structure", f"{place} must be a text", place)
