"""JSON Patch (RFC 6902) and JSON Merge Patch (RFC 7396) on resources: pure, the resource given is not changed."""

from __future__ import annotations

import re
from collections.abc import Callable
from copy import deepcopy
from decimal import Decimal
from typing import Any

from profiles.outcome import FhirError

MAX_OPERATIONS = 1_000
MAX_COPIED = 200_000  # nodes all copies of one patch may make: doubling a list thirty times is a bomb

_INDEX = re.compile(r"0|[1-9][0-9]{0,8}", re.ASCII)
_HALF_ESCAPE = re.compile(r"~(?![01])")
_NUMBERS = (int, Decimal)


def json_patch(resource: dict[str, Any], operations: Any) -> dict[str, Any]:
    """The resource with the operations applied in order, all or none.

    Errors name the operation: `invalid` for a malformed one, `processing` (422) for one that does not fit the resource.
    """
    if not isinstance(operations, list):
        raise FhirError("invalid", "A JSON Patch is an array of operations")
    if len(operations) > MAX_OPERATIONS:
        raise FhirError("too-costly", f"A patch may hold {MAX_OPERATIONS} operations, this one has {len(operations)}")
    document = _Document(deepcopy(resource))
    for place, operation in enumerate(operations):
        try:
            _apply(document, operation)
        except _Misfit as fault:
            raise FhirError(fault.code, f"Operation {place} of the patch: {fault}") from None
    if not isinstance(document.root, dict):
        raise FhirError("processing", "The patch leaves something that is not a resource")
    return document.root


def merge_patch(resource: dict[str, Any], patch: Any) -> dict[str, Any]:
    """The resource merged with the patch: null removes, objects merge, anything else replaces."""
    if not isinstance(patch, dict):
        raise FhirError("invalid", "A JSON Merge Patch of a resource is an object")
    merged: dict[str, Any] = _merge(resource, patch)
    return merged


def _merge(target: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    kept = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            kept.pop(name, None)
        else:
            kept[name] = _merge(kept.get(name), value)
    return kept


class _Misfit(Exception):
    """What an operation asks for cannot be done; `code` is the issue's."""

    def __init__(self, text: str, code: str = "processing") -> None:
        super().__init__(text)
        self.code = code


class _Document:
    """The document under change and what copies may still cost."""

    __slots__ = ("left", "root")

    def __init__(self, root: Any) -> None:
        self.root = root
        self.left = MAX_COPIED

    def copy(self, value: Any) -> Any:
        self.left -= _size(value, self.left)
        if self.left <= 0:
            raise _Misfit(f"the copies make more than {MAX_COPIED} nodes", "too-costly")
        return deepcopy(value)


def _size(value: Any, limit: int) -> int:
    """Nodes of a value, counted up to a limit."""
    count, stack = 0, [value]
    while stack and count <= limit:
        item = stack.pop()
        count += 1
        if isinstance(item, dict):
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)
    return count


def _apply(document: _Document, operation: Any) -> None:
    if not isinstance(operation, dict):
        raise _Misfit("an operation is an object", "invalid")
    perform = OPERATIONS.get(str(operation.get("op")))
    if perform is None:
        raise _Misfit(f"op {operation.get('op')!r} is not one of {', '.join(OPERATIONS)}", "invalid")
    perform(document, operation)


def _pointer(operation: dict[str, Any], name: str) -> list[str]:
    """The steps of a JSON Pointer (RFC 6901)."""
    text = operation.get(name)
    if not isinstance(text, str):
        raise _Misfit(f"{operation['op']} needs a {name}", "invalid")
    if text and not text.startswith("/"):
        raise _Misfit(f"the {name} {text!r} is not a JSON Pointer, it must start with /", "invalid")
    if _HALF_ESCAPE.search(text):
        raise _Misfit(f"the {name} {text!r} is not a JSON Pointer, ~ must be followed by 0 or 1", "invalid")
    return [step.replace("~1", "/").replace("~0", "~") for step in text.split("/")[1:]]


def _value(operation: dict[str, Any]) -> Any:
    if "value" not in operation:
        raise _Misfit(f"{operation['op']} needs a value", "invalid")
    return deepcopy(operation["value"])


def _find(root: Any, steps: list[str]) -> Any:
    value = root
    for depth, step in enumerate(steps):
        try:
            value = value[_key(value, step)]
        except (KeyError, IndexError, TypeError):
            raise _Misfit(f"there is nothing at /{'/'.join(steps[: depth + 1])}") from None
    return value


def _key(container: Any, step: str) -> Any:
    if not isinstance(container, list):
        return step
    if not _INDEX.fullmatch(step):
        raise _Misfit(f"{step!r} is not an index of an array")
    return int(step)


def _add(document: _Document, steps: list[str], value: Any) -> None:
    if not steps:
        document.root = value
        return
    container = _find(document.root, steps[:-1])
    if isinstance(container, list):
        place = len(container) if steps[-1] == "-" else _key(container, steps[-1])
        if place > len(container):
            raise _Misfit(f"index {place} is beyond the {len(container)} items of /{'/'.join(steps[:-1])}")
        container.insert(place, value)
    elif isinstance(container, dict):
        container[steps[-1]] = value
    else:
        raise _Misfit(f"/{'/'.join(steps[:-1])} is neither an object nor an array")


def _take(document: _Document, steps: list[str]) -> Any:
    """Removes what stands at the pointer and returns it."""
    if not steps:
        raise _Misfit("the whole resource cannot be removed")
    _find(document.root, steps)
    container = _find(document.root, steps[:-1])
    return container.pop(_key(container, steps[-1]))


def _op_add(document: _Document, operation: dict[str, Any]) -> None:
    _add(document, _pointer(operation, "path"), _value(operation))


def _op_remove(document: _Document, operation: dict[str, Any]) -> None:
    _take(document, _pointer(operation, "path"))


def _op_replace(document: _Document, operation: dict[str, Any]) -> None:
    steps, value = _pointer(operation, "path"), _value(operation)
    if not steps:
        document.root = value
        return
    _find(document.root, steps)
    container = _find(document.root, steps[:-1])
    container[_key(container, steps[-1])] = value


def _op_move(document: _Document, operation: dict[str, Any]) -> None:
    source, target = _pointer(operation, "from"), _pointer(operation, "path")
    if len(source) < len(target) and target[: len(source)] == source:
        raise _Misfit("a value cannot be moved into itself")
    _add(document, target, _take(document, source))


def _op_copy(document: _Document, operation: dict[str, Any]) -> None:
    source, target = _pointer(operation, "from"), _pointer(operation, "path")
    _add(document, target, document.copy(_find(document.root, source)))


def _op_test(document: _Document, operation: dict[str, Any]) -> None:
    if not _same(_find(document.root, _pointer(operation, "path")), _value(operation)):
        raise _Misfit(f"the value at {operation['path']} is not the one that the test expects")


def _same(one: Any, other: Any) -> bool:
    """Equality of RFC 6902 §4.6: numbers by value, true is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, _NUMBERS) and isinstance(other, _NUMBERS):
        return bool(one == other)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[k], other[k]) for k in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return type(one) is type(other) and bool(one == other)


OPERATIONS: dict[str, Callable[[_Document, dict[str, Any]], None]] = {
    "add": _op_add,
    "remove": _op_remove,
    "replace": _op_replace,
    "move": _op_move,
    "copy": _op_copy,
    "test": _op_test,
}
