"""The parameters of a call, read and checked by the OperationDefinition: pure (http://hl7.org/fhir/R4/operations.html)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from fhir_server.context import Pairs, Resource
from fhir_server.operations.call import Operation, Parameters
from profiles.model import PRIMITIVES, RESOURCE_TYPES
from profiles.outcome import FhirError
from profiles.validate import check
from profiles.validate.formats import fault as primitive_fault

CONTROLS = frozenset(("_format", "_pretty", "_summary", "_elements", "_page"))
INTEGER = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)


def _boolean(text: str) -> bool:
    return {"true": True, "false": False}[text]


def _integer(text: str) -> int:
    if not INTEGER.fullmatch(text):
        raise ValueError(text)
    return int(text)


READ: dict[str, Callable[[str], Any]] = {
    "boolean": _boolean,
    "integer": _integer,
    "positiveInt": _integer,
    "unsignedInt": _integer,
    "decimal": Decimal,
}


def given(operation: Operation, query: Pairs, sent: Resource | None, type: str = "") -> Parameters:
    """The values of each parameter; FhirError that names the one at fault."""
    found: Parameters = {}
    for name, text in query:
        if name not in CONTROLS:
            found.setdefault(name, []).append(_from_text(operation, name, text))
    if sent is not None:
        _from_body(operation, sent, found, type)
    for row in operation.inputs:
        _check_count(row, found.get(row["name"], []), operation)
    return found


def refuse_misshapen(sent: Resource) -> None:
    """FhirError for Parameters whose rows or parts are no array of objects: every operation goes through them."""
    rows: list[tuple[str, Any]] = [("Parameters.parameter", sent.get("parameter", []))]
    while rows:
        place, value = rows.pop()
        if not isinstance(value, list):
            raise FhirError("structure", f"{place} must be an array.", place)
        for number, row in enumerate(value):
            if not isinstance(row, dict):
                raise FhirError("structure", f"{place}[{number}] must be an object.", f"{place}[{number}]")
            if "part" in row:
                rows.append((f"{place}[{number}].part", row["part"]))


def _row(operation: Operation, name: str) -> dict[str, Any]:
    for row in operation.inputs:
        if row["name"] == name:
            return row
    known = ", ".join(row["name"] for row in operation.inputs) or "none"
    raise FhirError("not-supported", f"${operation.name} has no parameter {name}; it has {known}.", name)


def _from_text(operation: Operation, name: str, text: str) -> Any:
    kind = _row(operation, name).get("type", "")
    if kind not in PRIMITIVES and not _is_search(operation, name):
        raise FhirError("invalid", f"The parameter {name} is a {kind or 'group'} and must be posted.", name)
    try:
        value = READ.get(kind, str)(text)
    except (KeyError, ValueError, InvalidOperation):
        raise FhirError("value", f"{name}={text} is no {kind}.", name, status=400) from None
    return _checked(name, kind, value.replace(" ", "+") if kind in MOMENTS else value)


def _checked(name: str, kind: str, value: Any) -> Any:
    """A primitive value that is what its type allows; a moment may be less precise than the type asks for."""
    wrong = primitive_fault(kind, value) if kind in PRIMITIVES else None
    if wrong and not (kind in MOMENTS and isinstance(value, str) and primitive_fault("dateTime", value) is None):
        raise FhirError(wrong[0], f"{name}: {wrong[1]}", name, status=400)
    return value


def _is_search(operation: Operation, name: str) -> bool:
    return "searchType" in _row(operation, name)


def _from_body(operation: Operation, sent: Resource, found: Parameters, type: str) -> None:
    """A Parameters resource, or the resource itself where the operation takes one."""
    if not is_call(operation, sent, type):
        name = _resource_parameter(operation, sent)
        found.setdefault(name, []).append(sent)
        return
    for number, part in enumerate(sent.get("parameter", ())):
        place = f"Parameters.parameter[{number}]"
        named = part.get("name") if isinstance(part, dict) else None
        if not isinstance(named, str):
            raise FhirError("structure", f"{place} has no name.", place)
        found.setdefault(named, []).append(_value(_row(operation, named), part, place))


def is_call(operation: Operation, sent: Resource, type: str) -> bool:
    """Whether what was sent is Parameters of the call; an operation on Parameters may be sent any others as content."""
    if sent.get("resourceType") != "Parameters":
        return False
    if type != "Parameters":
        return True
    names = {part.get("name") for part in sent.get("parameter", ()) if isinstance(part, dict)}
    return bool(names) and names <= {row["name"] for row in operation.inputs}


def _resource_parameter(operation: Operation, sent: Resource) -> str:
    kind = sent.get("resourceType")
    for row in operation.inputs:
        if row.get("type") in ("Resource", "Any", kind):
            return str(row["name"])
    raise FhirError("invalid", f"${operation.name} takes Parameters, not a {kind}.", "resourceType")


def _value(row: dict[str, Any], part: dict[str, Any], place: str) -> Any:
    """The value of a part by the type of its parameter; groups come as their parts by name."""
    if row.get("part"):
        inner: Parameters = {}
        for child in part.get("part", ()):
            own = next((r for r in row["part"] if r["name"] == child.get("name")), None)
            if own is None:
                raise FhirError("not-supported", f"{row['name']} has no part {child.get('name')}.", place)
            inner.setdefault(own["name"], []).append(_value(own, child, place))
        return inner
    if "resource" in part:
        _check_resource(row, part["resource"], place)
        return part["resource"]
    values = {key: value for key, value in part.items() if key.startswith("value")}
    if len(values) != 1:
        raise FhirError("required", f"The parameter {row['name']} has no value.", place, status=400)
    (key, value), kind = next(iter(values.items())), row.get("type", "")
    if not _fits(key, kind):
        raise FhirError("invalid", f"The parameter {row['name']} is a {kind}, not {key}.", place)
    if kind in PRIMITIVES:
        return _checked(row["name"], kind, value)
    _check_content(row["name"], {"name": row["name"], key: value}, place)
    return value


def _check_content(name: str, part: dict[str, Any], place: str) -> None:
    """Refuse a value of a data type that breaks its definition."""
    faults = check({"resourceType": "Parameters", "parameter": [part]})
    if faults:
        told = faults[0].text.removeprefix("Parameters.parameter[0].")
        raise FhirError(faults[0].code, f"{name}: {told}", place, status=400)


# What clients send in place of a type, as they mean the same text.
TEXTS = frozenset(("string", "code", "uri", "url", "canonical", "id", "markdown", "oid", "uuid"))
MOMENTS = frozenset(("date", "dateTime", "instant"))
NUMBERS = frozenset(("integer", "positiveInt", "unsignedInt"))


def _fits(key: str, kind: str) -> bool:
    if kind in ("", "*", "Element", "Type"):
        return True
    sent = key.removeprefix("value")
    wanted = kind[0].upper() + kind[1:]
    if sent == wanted:
        return True
    groups: Sequence[frozenset[str]] = (TEXTS, MOMENTS | {"string"}, NUMBERS)
    plain = sent[0].lower() + sent[1:] if sent else ""
    return any(kind in group and plain in group for group in groups)


def _check_resource(row: dict[str, Any], resource: Any, place: str) -> None:
    kind = row.get("type", "")
    own = resource.get("resourceType") if isinstance(resource, dict) else None
    if own not in RESOURCE_TYPES or kind in PRIMITIVES or (kind in RESOURCE_TYPES and own != kind):
        raise FhirError("invalid", f"The parameter {row['name']} is a {kind}, not {own}.", place)


def _check_count(row: dict[str, Any], values: list[Any], operation: Operation) -> None:
    name, most = row["name"], row.get("max", "*")
    if len(values) < row.get("min", 0):
        raise FhirError("required", f"${operation.name} needs the parameter {name}.", name, status=400)
    if most != "*" and len(values) > int(most):
        raise FhirError("invalid", f"${operation.name} takes {name} at most {most} times.", name)


def parameters(pairs: Sequence[tuple[str, str, Any]]) -> Resource:
    """A Parameters resource of (name, key, value) rows: `("return", "valueMeta", {...})`."""
    return {"resourceType": "Parameters", "parameter": [{"name": name, key: value} for name, key, value in pairs]}
