"""FHIR's additions (http://hl7.org/fhir/R4/fhirpath.html, «Additional functions»)."""

from __future__ import annotations

from typing import Any

from profiles import model
from profiles.fhirpath import quantity, schema, steps
from profiles.fhirpath.errors import FhirPathError
from profiles.fhirpath.functions.conversion import text, to_quantity
from profiles.fhirpath.functions.row import Function
from profiles.fhirpath.narrative import narrative_faults
from profiles.fhirpath.nodes import UNRESOLVED, Collection, Node, Scope, boolean, single
from profiles.fhirpath.operators import is_number
from profiles.fhirpath.quantity import Quantity
from profiles.fhirpath.values import kind, unwrap

_extensions = steps.member("extension")
_modifiers = steps.member("modifierExtension")
_BASE = "http://hl7.org/fhir/StructureDefinition/"


def _extension(scope: Scope, items: Collection, url: Collection) -> Collection:
    wanted = text(url, "extension()")
    return [node for node in _extensions(scope, items) if node.value.get("url") == wanted]


def _has_extension(scope: Scope, items: Collection, url: Collection) -> Collection:
    return boolean(bool(_extension(scope, items, url)))


def _has_value(scope: Scope, items: Collection) -> Collection:
    return boolean(len(items) == 1 and _is_primitive(items[0]) and items[0].value is not None)


def _is_primitive(node: Node) -> bool:
    return node.type in schema.PRIMITIVES or (node.type.startswith("System.") and not isinstance(node.value, dict))


def _get_value(scope: Scope, items: Collection) -> Collection:
    if len(items) != 1 or not _is_primitive(items[0]) or items[0].value is None:
        return []
    value = unwrap(items[0])
    return [Node(value, f"System.{kind(value)}")]


def _resolve(scope: Scope, items: Collection) -> Collection:
    """What each reference, canonical or uri points at; what cannot be found is left out.

    Without a resolver in the environment a reference becomes a resource of which only the type is known: enough for
    `resolve() is Patient`, decided without I/O.
    """
    scope.run.spend(len(items) * 10)
    out: Collection = []
    for node in items:
        found = resolve_one(scope, node)
        if found is not None:
            stub = len(found) == 1
            out.append(Node(found, found.get("resourceType", "Resource"), None, UNRESOLVED if stub else ""))
    return out


def resolve_one(scope: Scope, node: Node) -> dict[str, Any] | None:
    """The resource a node refers to: contained, in the Bundle at hand, or by the environment."""
    reference = node.value.get("reference") if isinstance(node.value, dict) else node.value
    if not isinstance(reference, str):
        return _known_by_type(node)
    if reference.startswith("#"):
        return _contained(scope, reference[1:])
    found = _in_bundle(scope, reference)
    if found is not None:
        return found
    resolve = scope.run.env.resolve
    return resolve(reference) if resolve is not None else _known_by_type(node)


def _contained(scope: Scope, wanted: str) -> dict[str, Any] | None:
    for holder in (*scope.run.root, *scope.run.resource):
        if not isinstance(holder.value, dict):
            continue
        if not wanted:
            return holder.value
        for inner in holder.value.get("contained") or ():
            if inner.get("id") == wanted:
                return inner if isinstance(inner, dict) else None
    return None


def _in_bundle(scope: Scope, reference: str) -> dict[str, Any] | None:
    for holder in scope.run.root:
        if holder.type != "Bundle":
            continue
        for entry in holder.value.get("entry") or ():
            url = entry.get("fullUrl", "")
            if url == reference or (url.endswith("/" + reference) and "://" not in reference):
                resource = entry.get("resource")
                return resource if isinstance(resource, dict) else None
    return None


def reference_type(value: Any) -> str | None:
    """The resource type a Reference (or its text) names: by `type`, or by the last segments of the reference."""
    reference = value.get("reference") if isinstance(value, dict) else value
    if isinstance(reference, str):
        parts = reference.split("/_history/")[0].rsplit("/", 2)
        if len(parts) >= 2 and parts[-2] in model.RESOURCE_TYPES:
            return parts[-2]
    named = value.get("type") if isinstance(value, dict) else None
    return named if isinstance(named, str) and named in model.RESOURCE_TYPES else None


def _known_by_type(node: Node) -> dict[str, Any] | None:
    found = reference_type(node.value)
    return None if found is None else {"resourceType": found}


def _conforms_to(scope: Scope, items: Collection, structure: Collection) -> Collection:
    """A base definition by the type alone, a profile by the environment; an unknown structure is an error."""
    node, url = single(items, "conformsTo()"), text(structure, "conformsTo()")
    if node is None or url is None:
        return []
    base = url.removeprefix(_BASE).split("|")[0]
    if url.startswith(_BASE) and base in model.TYPES:
        return boolean(schema.is_a(node.type, base))
    conforms = scope.run.env.conforms
    found = conforms(node.value, url) if conforms is not None else None
    if found is None:
        raise FhirPathError(f"conformsTo(): the structure {url} is not known")
    return boolean(found)


def _member_of(scope: Scope, items: Collection, value_set: Collection) -> Collection:
    node, url = single(items, "memberOf()"), text(value_set, "memberOf()")
    ask = scope.run.env.member_of
    if node is None or url is None or ask is None:
        return []
    return boolean(ask(node.value, node.type, url))


def _subsumption(name: str, swap: bool) -> Function:
    def apply(scope: Scope, items: Collection, other: Collection) -> Collection:
        a, b = single(items, name), single(other, name)
        ask = scope.run.env.subsumes
        if a is None or b is None or ask is None:
            return []
        return boolean(ask(b.value, a.value) if swap else ask(a.value, b.value))

    return Function(apply, "values", 1, 1)


def _html_checks(scope: Scope, items: Collection) -> Collection:
    """Whether every item is a narrative the specification allows (rules txt-1 and txt-2)."""
    values = [node.value.get("div") if isinstance(node.value, dict) else node.value for node in items]
    scope.run.spend(sum(len(v) for v in values if isinstance(v, str)) // 10)
    return boolean(all(isinstance(v, str) and not narrative_faults(v) for v in values))


def _element_definition(scope: Scope, items: Collection) -> Collection:
    out: Collection = []
    for node in items:
        path = node.path or node.type
        owner = model.definition("StructureDefinition", path.split(".")[0]) or {}
        scope.run.spend(1000)
        rows = owner.get("snapshot", {}).get("element", [])
        out.extend(Node(row, "ElementDefinition") for row in rows if row.get("path") == path)
    return out


def _slice(scope: Scope, items: Collection, structure: Collection, name: Collection) -> Collection:
    url, wanted, ask = text(structure, "slice()"), text(name, "slice()"), scope.run.env.slice
    if url is None or wanted is None:
        return []
    if ask is None:
        raise FhirPathError(f"slice(): the structure {url} is not known")
    return [node for node in items if ask(node.value, url, wanted)]


def _check_modifiers(scope: Scope, items: Collection, *allowed: Collection) -> Collection:
    """The input, when all of its modifier extensions are among those named; an error otherwise."""
    known = {text(url, "checkModifiers()") for url in allowed}
    for node in _modifiers(scope, items):
        if node.value.get("url") not in known:
            raise FhirPathError(f"checkModifiers(): the modifier extension {node.value.get('url')} is not expected")
    return items


def _comparable(scope: Scope, items: Collection, other: Collection) -> Collection:
    """Whether `=` and `<` of two quantities have an answer; numbers are quantities of unit 1."""
    if len(items) != 1 or len(other) != 1:
        return []
    left, right = (to_quantity(value) if is_number(value) else value for value in (unwrap(items[0]), unwrap(other[0])))
    if not (isinstance(left, Quantity) and isinstance(right, Quantity)):
        return []
    return boolean(quantity.magnitudes(left, right) is not None)


FUNCTIONS = {
    "extension": Function(_extension, "values", 1, 1),
    "hasExtension": Function(_has_extension, "values", 1, 1),
    "hasValue": Function(_has_value),
    "getValue": Function(_get_value),
    "resolve": Function(_resolve),
    "conformsTo": Function(_conforms_to, "values", 1, 1),
    "memberOf": Function(_member_of, "values", 1, 1),
    "subsumes": _subsumption("subsumes()", swap=False),
    "subsumedBy": _subsumption("subsumedBy()", swap=True),
    "htmlChecks": Function(_html_checks),
    "elementDefinition": Function(_element_definition),
    "slice": Function(_slice, "values", 2, 2),
    "checkModifiers": Function(_check_modifiers, "values", 0, 32),
    "comparable": Function(_comparable, "values", 1, 1),
}
