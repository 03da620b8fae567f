"""The explaining pass: every fault of a resource against the base definitions, each with its place and in words.

It decides what is valid; the schemas of the fast path only spare most resources the way here.
Structure and cardinality: http://hl7.org/fhir/R4/json.html, required bindings: http://hl7.org/fhir/R4/terminologies.html
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from functools import cache
from typing import Any

from profiles.model import PRIMITIVES, RESOURCE_TYPES, Element, Field, choice_name, elements, fields, is_a
from profiles.outcome import Issue
from profiles.validate.bindings import binding_faults
from profiles.validate.fast import surely_valid
from profiles.validate.formats import fault, kind, quoted

Json = dict[str, Any]


def error(code: str, path: str, text: str) -> Issue:
    return Issue("error", code, f"{path}: {text}" if path else text, (path or "Resource",))


def resource_faults(resource: Any, path: str = "", *, expected: str | None = None, inner: str = "") -> Iterator[Issue]:
    """The faults of a resource; `inner` is the name of the element it stands in, if any."""
    if not isinstance(resource, dict):
        yield error("structure", path, f"a resource (a JSON object) is expected, not {kind(resource)}")
        return
    name = resource.get("resourceType")
    if not isinstance(name, str) or name not in RESOURCE_TYPES:
        yield error("structure", path, _no_type(resource, name))
        return
    if expected and name != expected:
        yield error("structure", path or name, f"a {expected} is expected here, not a {name}")
    if inner == "contained" and "contained" in resource:
        yield error("structure", path + ".contained", "a contained resource must not contain others (dom-2)")
    yield from object_faults(resource, name, path or name)


def _no_type(resource: Json, name: Any) -> str:
    if "resourceType" not in resource:
        return "resourceType is missing: it must name one of the resource types of FHIR R4"
    if not isinstance(name, str):
        return f"resourceType must be a string, not {kind(name)}"
    close = difflib.get_close_matches(name, RESOURCE_TYPES, 1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    return f"resourceType {quoted(name)} is no resource type of FHIR R4{hint}"


def object_faults(value: Any, type_name: str, path: str) -> Iterator[Issue]:
    """The faults of an object of a complex type, an inner element or a resource."""
    if not isinstance(value, dict):
        yield error("structure", path, f"an object ({type_name}) is expected, not {kind(value)}")
        return
    if not value:
        yield error("structure", path, "an object must not be empty")
    known = fields(type_name)
    for key in value:
        if not (key == "resourceType" and is_a(type_name, "Resource")):
            yield from _property_faults(value, key, known, path)
    yield from _cardinality_faults(value, type_name, path)


def _property_faults(value: Json, key: str, known: dict[str, Field], path: str) -> Iterator[Issue]:
    """One property: unknown, or its values; a sibling `_x` is looked at together with `x`."""
    name = key.removeprefix("_")
    found = known.get(name)
    if found is None or (key != name and (found.type not in PRIMITIVES or found.type == "xhtml")):
        yield error("structure", f"{path}.{key}", f"there is no such property here{_hint(key, known)}")
    elif key == name or name not in value:
        place = f"{path}.{found.element.name}"
        if found.type in PRIMITIVES:
            yield from _primitives(found, value, name, place)
        else:
            yield from _complexes(found, value[name], place)


def _hint(key: str, known: dict[str, Field]) -> str:
    close = difflib.get_close_matches(key, known, 1)
    return f"; did you mean {close[0]}?" if close else ""


def _complexes(found: Field, value: Any, path: str) -> Iterator[Issue]:
    if found.element.max == 1:
        yield from _complex(found, value, path)
    elif not isinstance(value, list):
        yield error("structure", path, f"an array is expected, not {kind(value)}")
    elif not value:
        yield error("structure", path, "an array must not be empty")
    else:
        for index, item in enumerate(value):
            yield from _complex(found, item, f"{path}[{index}]")


def _complex(found: Field, value: Any, path: str) -> Iterator[Issue]:
    if value is None:
        yield error("structure", path, "null is not allowed: leave the property out")
    elif found.type == "Resource":
        # Of a Bundle mostly one entry is refused: the others need no explaining.
        if not surely_valid(value, contained=found.element.name == "contained"):
            yield from resource_faults(value, path, inner=found.element.name)
    else:
        yield from object_faults(value, found.type, path)
        if isinstance(value, dict):
            yield from binding_faults(found.element, found.type, value, path)


def _primitives(found: Field, parent: Json, name: str, path: str) -> Iterator[Issue]:
    """The values of a primitive property and their siblings (http://hl7.org/fhir/R4/json.html#primitive)."""
    sides = [(parent[key], key) for key in (name, "_" + name) if key in parent]
    if found.element.max == 1:
        yield from _primitive(found, parent.get(name), parent.get("_" + name), path)
        for value, key in sides:
            if value is None:
                yield error("structure", path, f"null is not allowed: leave {key} out")
        return
    wrong = [(v, k) for v, k in sides if not isinstance(v, list) or not v]
    for value, key in wrong:
        said = "must not be empty" if isinstance(value, list) else f"must be an array, not {kind(value)}"
        yield error("structure", path, f"{key} {said}")
    if not wrong:
        yield from _repeated(found, parent.get(name), parent.get("_" + name), path)


def _repeated(found: Field, values: list[Any] | None, siblings: list[Any] | None, path: str) -> Iterator[Issue]:
    """Repeated primitives: the two arrays are aligned, and null stands where the other side has all there is."""
    if values and siblings and len(values) != len(siblings):
        name = found.element.name
        yield error("structure", path, f"{name} has {len(values)} items, but _{name} has {len(siblings)}")
    length = max(len(values or ()), len(siblings or ()))
    left = (values or []) + [None] * (length - len(values or ()))
    right = (siblings or []) + [None] * (length - len(siblings or ()))
    for index, (value, sibling) in enumerate(zip(left, right, strict=True)):
        if value is None and sibling is None:
            yield error("structure", f"{path}[{index}]", "null is not allowed where there is no extension for it")
        yield from _primitive(found, value, sibling, f"{path}[{index}]")


def _primitive(found: Field, value: Any, sibling: Any, path: str) -> Iterator[Issue]:
    if sibling is not None:
        yield from object_faults(sibling, "Element", path)
    if value is None:
        return
    wrong = fault(found.type, value)
    if wrong:
        yield error(wrong[0], path, wrong[1])
    else:
        yield from binding_faults(found.element, found.type, value, path)


def _cardinality_faults(value: Json, type_name: str, path: str) -> Iterator[Issue]:
    """Two types of one choice, too many, or missing."""
    known = fields(type_name)
    present: dict[str, set[str]] = {}
    for key in value:
        name = key.removeprefix("_")
        if name in known:
            present.setdefault(known[name].element.name, set()).add(name)
    for element_name, names in present.items():
        child = elements(type_name)[element_name]
        if len(names) > 1:
            forms = ", ".join(n for n in known if n in names)
            yield error("structure", f"{path}.{element_name}", f"only one of {forms} is allowed")
        items = value.get(element_name)
        if child.max is not None and isinstance(items, list) and len(items) > max(child.max, 1):
            yield error("structure", f"{path}.{element_name}", f"at most {child.max} are allowed, not {len(items)}")
    for child in required(type_name):
        if child.name not in present:
            yield error("required", f"{path}.{child.name}", f"{_described(child)} is required")


@cache
def required(type_name: str) -> tuple[Element, ...]:
    return tuple(child for child in elements(type_name).values() if child.min)


def _described(child: Element) -> str:
    forms = ", ".join(choice_name(child.name, t) for t in child.types[:8])
    return f"{child.name}[x] ({forms})" if child.is_choice else child.name
