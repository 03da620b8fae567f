"""The fast path: compiled schemas, one per resource type, made when first needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import jsonschema_rs

from profiles.model import RESOURCE_TYPES
from profiles.validate.schema import schema_for

# Rust's plain engine: linear time, no look-around.
_options = jsonschema_rs.RegexOptions()


@lru_cache(maxsize=64)  # 0.2 to 1 MB for most types, so that a worker never holds all 64 MB
def validator(resource_type: str) -> jsonschema_rs.Draft4Validator:
    return jsonschema_rs.Draft4Validator(schema_for(resource_type), pattern_options=_options)


def warm(*resource_types: str) -> None:
    """Compile the schemas of types ahead of the first request (1 to 3 ms each)."""
    for name in resource_types:
        validator(name)


def surely_valid(resource: Any, *, contained: bool = False) -> bool:
    """True when the resource and all resources in it are valid; False says only that `explain` must look."""
    kind = resource.get("resourceType") if isinstance(resource, dict) else None
    if not isinstance(kind, str) or kind not in RESOURCE_TYPES or (contained and "contained" in resource):
        return False
    try:
        if not validator(kind).is_valid(resource):
            return False
    except ValueError:  # a number that prints unlike a Decimal (`profiles.json.Literal`)
        return False
    if kind in INNER:
        return all(surely_valid(inner) for inner in INNER[kind](resource))
    return all(surely_valid(inner, contained=True) for inner in resource.get("contained", ()))


def _entries(bundle: dict[str, Any]) -> Iterator[Any]:
    for entry in bundle.get("entry", ()):
        if "resource" in entry:
            yield entry["resource"]
        if "outcome" in entry.get("response", ()):
            yield entry["response"]["outcome"]


def _parameters(parent: dict[str, Any], name: str = "parameter") -> Iterator[Any]:
    for parameter in parent.get(name, ()):
        if "resource" in parameter:
            yield parameter["resource"]
        yield from _parameters(parameter, "part")


# Where resources other than contained ones stand: every element of type Resource (a test holds this to the model).
INNER: dict[str, Callable[[dict[str, Any]], Iterator[Any]]] = {"Bundle": _entries, "Parameters": _parameters}
