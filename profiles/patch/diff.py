"""The difference of two resources as a FHIRPath Patch (http://hl7.org/fhir/R4/fhirpatch.html)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from copy import deepcopy
from difflib import SequenceMatcher
from typing import Any

from profiles import model
from profiles.fhirpath.steps import is_resource_of
from profiles.outcome import FhirError
from profiles.patch.elements import Content

# Above this many items two lists are compared place by place: finding the longest match costs their product.
_MAX_MATCHED = 400

# The data types a part's value[x] can hold (http://hl7.org/fhir/R4/datatypes.html#open); the rest is written as parts.
_OPEN = model.element("Parameters.parameter", "value")
_VALUE_TYPES = frozenset(_OPEN.types if _OPEN else ())

Part = dict[str, Any]


def diff(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """A Parameters resource with the operations that turn `before` into `after`; both of one resource type."""
    kind = before.get("resourceType")
    if kind != after.get("resourceType") or kind not in model.RESOURCE_TYPES:
        raise FhirError("invalid", f"A {kind} and a {after.get('resourceType')} have no difference")
    operations: list[Part] = []
    _compare(operations, str(kind), str(kind), before, after)
    found: dict[str, Any] = {"resourceType": "Parameters"}
    if operations:
        found["parameter"] = operations
    return found


def _operation(kind: str, path: str, **parts: Part | str | int) -> Part:
    rows: list[Part] = [{"name": "type", "valueCode": kind}, {"name": "path", "valueString": path}]
    for name, value in parts.items():
        if isinstance(value, dict):
            rows.append(value)
        else:
            rows.append({"name": name, "valueInteger" if isinstance(value, int) else "valueString": value})
    return {"name": "operation", "part": rows}


def _compare(out: list[Part], path: str, type_name: str, before: dict[str, Any], after: dict[str, Any]) -> None:
    """All elements of one object, in the order of the specification."""
    for element in model.elements(type_name).values():
        old, new = _read(type_name, element, before), _read(type_name, element, after)
        # Equal is not the same: 1.0 and 1.00 are, and true and 1; their texts differ.
        if old == new and repr(old) == repr(new):
            continue
        here = f"{path}.{element.name}"
        if element.max == 1:
            _compare_single(out, path, element.name, old[0] if old else None, new[0] if new else None)
        elif not old or not new:
            _whole_list(out, path, here, element, old, new)
        else:
            _compare_lists(out, here, element, old, new)


def _read(type_name: str, element: model.Element, holder: dict[str, Any]) -> list[Content]:
    """The contents of an element: at most one for what does not repeat."""
    for key, kind in _keys(element):
        value, extra = holder.get(key), holder.get(f"_{key}") if kind in model.PRIMITIVES else None
        if value is None and extra is None:
            continue
        if not isinstance(value, list) and not isinstance(extra, list):
            return [Content(value, extra, _actual(kind, value))]
        values, extras = value or [], extra or []
        size = max(len(values), len(extras))
        values, extras = values + [None] * (size - len(values)), extras + [None] * (size - len(extras))
        return [Content(v, x, _actual(kind, v)) for v, x in zip(values, extras, strict=True)]
    return []


def _keys(element: model.Element) -> list[tuple[str, str]]:
    kinds = element.types or (element.ref or "",)
    if element.is_choice:
        return [(model.choice_name(element.name, kind), kind) for kind in kinds]
    return [(element.name, model.content_type(element, kinds[0]))]


def _actual(kind: str, value: Any) -> str:
    return is_resource_of(value) if kind in ("Resource", "DomainResource") else kind


def _compare_single(out: list[Part], path: str, name: str, old: Content | None, new: Content | None) -> None:
    here = f"{path}.{name}"
    if old is None and new is not None:
        out.append(_operation("add", path, name=name, value=_part("value", new)))
    elif new is None:
        out.append(_operation("delete", here))
    elif old is not None:
        _change(out, here, old, new)


def _change(out: list[Part], here: str, old: Content, new: Content) -> None:
    """Down into an object of the same type that keeps something, else the whole of it: an emptied object is gone."""
    deeper = isinstance(old.value, dict) and isinstance(new.value, dict) and old.type == new.type
    deeper = deeper and not old.value.keys().isdisjoint(new.value)
    if deeper and (old.type not in model.RESOURCE_TYPES or old.value.get("id") == new.value.get("id")):
        _compare(out, here, new.type, old.value, new.value)
    else:
        out.append(_operation("replace", here, value=_part("value", new)))


def _whole_list(
    out: list[Part], path: str, here: str, element: model.Element, old: list[Content], new: list[Content]
) -> None:
    out.extend(_operation("add", path, name=element.name, value=_part("value", item)) for item in new)
    out.extend(_operation("delete", f"{here}[{index}]") for index in range(len(old) - 1, -1, -1))


def _compare_lists(out: list[Part], here: str, element: model.Element, old: list[Content], new: list[Content]) -> None:
    """Items that stay are matched first; what stands between them is changed in place, inserted or deleted."""
    shift = 0
    for tag, i, i_end, j, j_end in _opcodes(old, new):
        if tag == "equal":
            continue
        both = min(i_end - i, j_end - j)
        for step in range(both):
            _change(out, f"{here}[{i + step + shift}]", old[i + step], new[j + step])
        out.extend(_operation("delete", f"{here}[{n + shift}]") for n in range(i_end - 1, i + both - 1, -1))
        for index in range(j + both, j_end):
            place = i + shift + index - j
            out.append(_operation("insert", here, index=place, value=_part("value", new[index])))
        shift += (j_end - j) - (i_end - i)


def _opcodes(old: list[Content], new: list[Content]) -> Sequence[tuple[str, int, int, int, int]]:
    if max(len(old), len(new)) > _MAX_MATCHED:
        return [("replace", 0, len(old), 0, len(new))]
    keys = [[json.dumps((c.value, c.extra), sort_keys=True, default=str) for c in row] for row in (old, new)]
    return SequenceMatcher(None, keys[0], keys[1], autojunk=False).get_opcodes()


def _part(name: str, content: Content) -> Part:
    """A part that holds the content: a value[x], a resource, or parts for what value[x] cannot hold."""
    if content.type in model.RESOURCE_TYPES or content.type == "Resource":
        return {"name": name, "resource": deepcopy(content.value)}
    kind = "string" if content.type == "xhtml" else content.type
    if kind not in _VALUE_TYPES:
        return {"name": name, "part": _inner_parts(content)}
    key = model.choice_name("value", kind)
    part: Part = {"name": name}
    if content.value is not None:
        part[key] = deepcopy(content.value)
    if content.extra is not None:
        part[f"_{key}"] = deepcopy(content.extra)
    return part


def _inner_parts(content: Content) -> list[Part]:
    rows: list[Part] = []
    for element in model.elements(content.type).values():
        rows.extend(_part(element.name, item) for item in _read(content.type, element, content.value))
    return rows
