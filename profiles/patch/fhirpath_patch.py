"""FHIRPath Patch: operations in a Parameters resource (http://hl7.org/fhir/R4/fhirpatch.html); pure."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

from profiles import model
from profiles.fhirpath import schema
from profiles.fhirpath.errors import FhirPathError
from profiles.fhirpath.parser import Name, Tree
from profiles.fhirpath.places import Place, locate, path_steps
from profiles.outcome import FhirError
from profiles.patch import elements
from profiles.patch.elements import Content
from profiles.patch.json_patch import MAX_OPERATIONS

# Work units for all paths of one patch together.
STEPS = 500_000
_MAX_DEPTH = 32

Part = dict[str, Any]


def fhirpath_patch(resource: dict[str, Any], parameters: Any) -> dict[str, Any]:
    """The resource with the operations applied in order, all or none.

    Errors name the operation: `invalid` for a malformed one, `processing` (422) for one that does not fit the resource.
    """
    if not isinstance(parameters, dict) or parameters.get("resourceType") != "Parameters":
        raise FhirError("invalid", "A FHIRPath Patch is a Parameters resource")
    operations = parameters.get("parameter") or []
    if not isinstance(operations, list):
        raise FhirError("invalid", "Parameters.parameter is an array of operations")
    if len(operations) > MAX_OPERATIONS:
        raise FhirError("too-costly", f"A patch may hold {MAX_OPERATIONS} operations, this one has {len(operations)}")
    patched = deepcopy(resource)
    for number, operation in enumerate(operations):
        try:
            _apply(patched, operation, STEPS // len(operations) + 1000)
        except _Misfit as fault:
            raise FhirError(fault.code, f"Operation {number} of the patch: {fault}") from None
        except FhirPathError as fault:
            raise FhirError(fault.code, f"Operation {number} of the patch: {fault.text}") from None
    return patched


class _Misfit(Exception):
    """What an operation asks for cannot be done; `code` is the issue's."""

    def __init__(self, text: str, code: str = "processing") -> None:
        super().__init__(text)
        self.code = code


def _apply(resource: dict[str, Any], operation: Any, budget: int) -> None:
    if not isinstance(operation, dict) or operation.get("name") != "operation":
        raise _Misfit("the parameter is not called operation", "invalid")
    parts = _parts(operation)
    kind = _plain(parts, "type")
    row = OPERATIONS.get(str(kind))
    if row is None:
        raise _Misfit(f"type {kind!r} is not one of {', '.join(OPERATIONS)}", "invalid")
    perform, allowed = row
    unknown = sorted(set(parts) - {"type", "path", *allowed})
    if unknown:
        raise _Misfit(f"{kind} has no part {unknown[0]}", "invalid")
    path = _text(parts, "path")
    steps = path_steps(path)
    perform(_Target(resource, path, steps, budget), parts)


def _parts(operation: Part) -> dict[str, Part]:
    found: dict[str, Part] = {}
    for part in _rows(operation):
        name = part.get("name") if isinstance(part, dict) else None
        if not isinstance(name, str) or name in found:
            raise _Misfit(f"a part is missing its name, or {name} stands twice", "invalid")
        found[name] = part
    return found


def _rows(parameter: Part) -> list[Any]:
    rows = parameter.get("part") or []
    if not isinstance(rows, list):
        raise _Misfit("part is not an array", "invalid")
    return rows


def _plain(parts: dict[str, Part], name: str) -> Any:
    """The primitive value of a part."""
    for key, value in parts.get(name, {}).items():
        if key.startswith("value") and not isinstance(value, (dict, list)):
            return value
    raise _Misfit(f"the part {name} is missing", "invalid")


def _text(parts: dict[str, Part], name: str) -> str:
    value = _plain(parts, name)
    if not isinstance(value, str):
        raise _Misfit(f"{name} must be a string", "invalid")
    return value


def _index(parts: dict[str, Part], name: str) -> int:
    value = _plain(parts, name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise _Misfit(f"{name} must be an integer", "invalid")
    return value


class _Target:
    """What an operation works on: the resource and its path."""

    __slots__ = ("_budget", "_resource", "_steps", "path")

    def __init__(self, resource: dict[str, Any], path: str, steps: list[Tree], budget: int) -> None:
        self._resource = resource
        self.path = path
        self._steps = steps
        self._budget = budget

    def places(self) -> list[Place]:
        """The elements of the path."""
        return locate(self._resource, self._steps, self._budget)

    def one(self) -> Place:
        """The only element of the path."""
        return self._only(self.places())

    def collection(self) -> tuple[Place, str]:
        """The element that holds the list the path names, and the list's name."""
        last = self._steps[-1]
        if not isinstance(last, Name) or len(self._steps) < 2:
            raise _Misfit(f"{self.path} is no list")
        return self._only(locate(self._resource, self._steps[:-1], self._budget)), last.name

    def _only(self, found: list[Place]) -> Place:
        if len(found) != 1:
            raise _Misfit(f"{self.path} selects {len(found) or 'no'} elements, not one")
        return found[0]


def _add(target: _Target, parts: dict[str, Part]) -> None:
    place, name = target.one(), _text(parts, "name")
    holder = _holder(place)
    element, choice = _element(place.node.type, name)
    content = _content(place.node.type, element, choice, _value_part(parts))
    key = _key(element, content)
    if element.max is None or element.max > 1:
        elements.insert(holder, key, elements.length(holder, key), content)
        return
    for slot in schema.slots(place.node.type, element.name) or ():
        if slot.key in holder or f"_{slot.key}" in holder:
            raise _Misfit(f"{target.path}.{element.name} is there already and does not repeat")
    elements.put(holder, key, content)


def _insert(target: _Target, parts: dict[str, Part]) -> None:
    holder, type_name, element = _list_of(target)
    index, size = _index(parts, "index"), elements.length(holder, element.name)
    if not 0 <= index <= size:
        raise _Misfit(f"index {index} is beyond the {size} items of {target.path}")
    elements.insert(holder, element.name, index, _content(type_name, element, None, _value_part(parts)))


def _list_of(target: _Target) -> tuple[dict[str, Any], str, model.Element]:
    place, name = target.collection()
    element, _ = _element(place.node.type, name)
    if element.max == 1:
        raise _Misfit(f"{target.path} does not repeat")
    return _holder(place), place.node.type, element


def _delete(target: _Target, parts: dict[str, Part]) -> None:
    found = target.places()
    if len(found) > 1:
        raise _Misfit(f"{target.path} selects {len(found)} elements; only one at a time can be deleted")
    for place in found:
        _not_root(target, place)
        elements.remove(place)


def _replace(target: _Target, parts: dict[str, Part]) -> None:
    place = target.one()
    _not_root(target, place)
    owner = place.parent.node.type if place.parent else ""
    field = model.field(owner, place.key)
    element = field.element if field else _element(owner, place.key)[0]
    content = _content(owner, element, None, _value_part(parts))
    elements.replace(place, _key(element, content), content)


def _move(target: _Target, parts: dict[str, Part]) -> None:
    holder, _, element = _list_of(target)
    source, destination = _index(parts, "source"), _index(parts, "destination")
    size = elements.length(holder, element.name)
    for index in (source, destination):
        if not 0 <= index < size:
            raise _Misfit(f"index {index} is beyond the {size} items of {target.path}")
    elements.move(holder, element.name, source, destination)


def _not_root(target: _Target, place: Place) -> None:
    if place.holder is None:
        raise _Misfit(f"{target.path} is the whole resource")


def _holder(place: Place) -> dict[str, Any]:
    """The object of an element's children: that of a primitive is its `_name` twin, made when it is missing."""
    if isinstance(place.node.value, dict):
        return place.node.value
    if isinstance(place.node.extra, dict):
        return place.node.extra
    extra: dict[str, Any] = {}
    elements.replace(place, place.key, Content(place.node.value, extra, place.node.type))
    return extra


def _element(type_name: str, name: str) -> tuple[model.Element, str | None]:
    """The definition of a child by its name, and the type when the name is a choice's JSON name (`valueString`)."""
    owner = "Element" if type_name in model.PRIMITIVES else type_name
    found = model.element(owner, name)
    if found is not None:
        return found, None
    field = model.field(owner, name)
    if field is None:
        raise _Misfit(f"{schema.public_name(type_name)} has no element {name}")
    return field.element, field.type


def _key(element: model.Element, content: Content) -> str:
    return model.choice_name(element.name, content.type) if element.is_choice else element.name


def _value_part(parts: dict[str, Part]) -> Part:
    if "value" not in parts:
        raise _Misfit("the part value is missing", "invalid")
    return parts["value"]


def _content(type_name: str, element: model.Element, choice: str | None, part: Part, depth: int = 0) -> Content:
    """What a `value` part holds, as content for the element: a data type, a resource, or parts of an unnamed type."""
    if depth > _MAX_DEPTH:
        raise _Misfit(f"the value is nested deeper than {_MAX_DEPTH}", "too-costly")
    if "resource" in part:
        return Content(deepcopy(part["resource"]), None, "Resource")
    given = next((key for key in part if key.startswith("value")), None) or next(
        (key[1:] for key in part if key.startswith("_value")), None
    )
    if given is None:
        kind = choice or model.content_type(element, (element.types or ("",))[0])
        return Content(_from_parts(kind, part, depth), None, kind)
    return Content(deepcopy(part.get(given)), deepcopy(part.get(f"_{given}")), _type_for(element, choice, given))


def _type_for(element: model.Element, choice: str | None, given: str) -> str:
    """The type of the value: one of a choice's by the name of value[x], the element's only one otherwise."""
    if choice is not None:
        return choice
    named = next((t for t in element.types if model.choice_name("value", t) == given), None)
    if named is not None:
        return named
    if element.is_choice or not element.types:
        raise _Misfit(f"{element.name} cannot hold a {given.removeprefix('value')}")
    only = element.types[0]
    if (given[5:6].lower() + given[6:] in model.PRIMITIVES) != (only in model.PRIMITIVES):
        raise _Misfit(f"{element.name} holds a {only}, not a {given.removeprefix('value')}")
    return only


def _from_parts(type_name: str, part: Part, depth: int) -> dict[str, Any]:
    """The object whose elements are given one by one as parts."""
    built: dict[str, Any] = {}
    for child in _rows(part):
        name = child.get("name") if isinstance(child, dict) else None
        element, choice = _element(type_name, str(name))
        content = _content(type_name, element, choice, child, depth + 1)
        key = _key(element, content)
        if element.max == 1:
            elements.put(built, key, content)
        else:
            elements.insert(built, key, elements.length(built, key), content)
    if not built:
        raise _Misfit("the value is empty", "invalid")
    return built


_Operation = Callable[[_Target, dict[str, Part]], None]

# Operation -> what it does, and its parts beside type and path.
OPERATIONS: dict[str, tuple[_Operation, frozenset[str]]] = {
    "add": (_add, frozenset(("name", "value"))),
    "insert": (_insert, frozenset(("index", "value"))),
    "delete": (_delete, frozenset()),
    "replace": (_replace, frozenset(("value",))),
    "move": (_move, frozenset(("source", "destination"))),
}
