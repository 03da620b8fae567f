"""Draft 4 JSON Schemas from the type model: the fast path of validation (http://hl7.org/fhir/R4/json.html).

A schema is *stricter* than FHIR and never laxer: what it accepts is valid, what it refuses goes to `explain`, which
decides. So rare but legal shapes (siblings of repeated primitives, extensions with an id) stay out of it.
Draft 4, because there 1.0 is no integer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from profiles.model import TYPES, Element, choice_name, content_type, elements, required_codes
from profiles.validate.formats import INTEGERS, MAX_INTEGER, PATTERNS

Schema = dict[str, Any]

# What open choices (any type at all, such as Extension.value[x]) mostly hold; their other types take the slow path.
# All 146 compiled types take 73 MB like this, 203 MB with every type; one type 0.2 to 9 MB and 1 to 15 ms.
_SIMPLE = "boolean canonical code date dateTime decimal integer markdown string uri url"
_COMPLEX = "Address CodeableConcept Coding Identifier Period Quantity Reference"
USUAL = frozenset([*_SIMPLE.split(), *_COMPLEX.split()])
OPEN_CHOICE = 20  # types
NOTHING: Schema = {"not": {}}


def schema_for(resource_type: str) -> Schema:
    """The schema of a resource type, with the definitions of all types it reaches."""
    root = object_schema(resource_type)
    root["properties"]["resourceType"] = {"enum": [resource_type]}
    root["required"] = ["resourceType", *root.get("required", ())]
    found = {name: definition(name) for name in reached(root)}
    return root | {"$schema": "http://json-schema.org/draft-04/schema#", "definitions": found}


def reached(root: Schema) -> list[str]:
    """The names of all definitions that a schema refers to, directly or through others."""
    found: set[str] = set()
    waiting = list(references(root))
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += references(definition(name))
    return sorted(found)


def references(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if "$ref" in schema:
            yield schema["$ref"].removeprefix("#/definitions/")
        for value in schema.values():
            yield from references(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from references(value)


def definition(name: str) -> Schema:
    return primitive_schema(name) if is_primitive(name) else object_schema(name)


def is_primitive(name: str) -> bool:
    return name in TYPES and TYPES[name].kind == "primitive-type"


def primitive_schema(name: str) -> Schema:
    if name == "boolean":
        return {"type": "boolean"}
    if name == "decimal":
        return {"type": "number"}
    if name in INTEGERS:
        return {"type": "integer", "minimum": INTEGERS[name], "maximum": MAX_INTEGER}
    return {"type": "string", "pattern": PATTERNS[name]}


def object_schema(type_name: str) -> Schema:
    properties: Schema = {}
    required: list[str] = []
    one_of: list[Schema] = []
    dependencies: Schema = {}
    for child in elements(type_name).values():
        names = add_properties(child, properties)
        if child.min and len(names) == 1:
            required += names
        elif child.min:
            one_of.append({"anyOf": [{"required": [n]} for n in names]})
        if len(names) > 1 and type_name != "Extension":
            dependencies |= exclusive(names, properties)
    schema: Schema = {"type": "object", "properties": properties, "additionalProperties": False, "minProperties": 1}
    if type_name == "Extension":
        # url and one value, or url and extension, perhaps an id: cheaper than telling 50 types apart
        schema["anyOf"] = [{"maxProperties": 2}, {"maxProperties": 3, "required": ["id"]}]
    rest = {"required": required, "allOf": one_of, "dependencies": dependencies}
    return schema | {keyword: value for keyword, value in rest.items() if value}


def exclusive(names: list[str], properties: Schema) -> Schema:
    """No two alternatives of a choice, as `dependencies`: 17 µs a Patient where oneOf took 304."""
    groups = {n: [n, "_" + n] if "_" + n in properties else [n] for n in names}
    return {
        member: {"not": {"anyOf": [{"required": [o]} for other in names if other != name for o in groups[other]]}}
        for name in names
        for member in groups[name]
    }


def add_properties(child: Element, properties: Schema) -> list[str]:
    """Add the properties of an element; their names, one for each type of a choice."""
    names = []
    for kind in usual(child):
        name = choice_name(child.name, kind) if child.is_choice else child.name
        names.append(name)
        single = bound(child, kind) or value_schema(content_type(child, kind))
        properties[name] = single if child.max == 1 else array_of(single, child.max)
        if child.max == 1 and is_primitive(kind) and kind != "xhtml" and child.name != "id":
            properties["_" + name] = {"$ref": "#/definitions/Element"}
    return names


def array_of(items: Schema, most: int | None) -> Schema:
    schema: Schema = {"type": "array", "items": items, "minItems": 1}
    return schema if most is None else schema | {"maxItems": most}


def usual(child: Element) -> tuple[str, ...]:
    """The types of an element that a schema handles."""
    if child.ref:
        return (child.ref,)
    return tuple(t for t in child.types if t in USUAL) if len(child.types) > OPEN_CHOICE else child.types


def value_schema(type_name: str) -> Schema:
    """Resources inside resources are checked one by one, by the schema of their own type."""
    return {"type": "object"} if type_name == "Resource" else {"$ref": "#/definitions/" + type_name}


def bound(child: Element, kind: str) -> Schema | None:
    """The schema of a required binding whose codes are known; codings from several systems take the slow path."""
    if not child.binding or child.binding.strength != "required" or kind not in ("code", "Coding", "CodeableConcept"):
        return None
    systems = required_codes().get(child.binding.value_set.split("|")[0])
    if not systems:
        return None
    codes = {"enum": sorted({c for found in systems.values() for c in found})}
    if kind == "code":
        return codes
    if len(systems) > 1:
        return NOTHING
    coding = {"properties": {"system": {"enum": list(systems)}, "code": codes}, "required": ["system", "code"]}
    concept = {"properties": {"coding": {"items": coding}}, "required": ["coding"]}
    return {"allOf": [{"$ref": "#/definitions/" + kind}, coding if kind == "Coding" else concept]}
