"""How FHIRPath sees the type model: which children a type has, and under which JSON key each of them stands."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from profiles import model


class Slot(NamedTuple):
    """One JSON property a member can stand in: its key, its type, whether primitive, its definition's path.

    The type `Resource` means: what the value's own `resourceType` says.
    """

    key: str
    type: str
    primitive: bool
    path: str


PRIMITIVES = model.PRIMITIVES


def words(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


SYSTEM = frozenset(
    f"System.{name}" for name in words("Any Boolean Integer Long Decimal String Date DateTime Time Quantity TypeInfo")
)
_OF_PRIMITIVE = {"id": ("string", True), "extension": ("Extension", False)}
_OF_SYSTEM = {
    "System.TypeInfo": {"namespace": "System.String", "name": "System.String", "baseType": "System.String"},
    "System.Quantity": {"value": "System.Decimal", "unit": "System.String"},
}
_RESOURCES = frozenset(("Resource", "DomainResource"))


@cache
def slots(type_name: str, name: str) -> tuple[Slot, ...] | None:
    """Where the member of the type stands: several slots for a choice, None when the type has no such member."""
    if type_name.startswith("System."):
        kind = _OF_SYSTEM.get(type_name, {}).get(name)
        return (Slot(name, kind, False, ""),) if kind else None
    if type_name in PRIMITIVES:
        found = _OF_PRIMITIVE.get(name)
        return (Slot(name, found[0], found[1], f"Element.{name}"),) if found else None
    element = model.element(type_name, name)
    if element is None:
        return None
    kinds = element.types or (element.ref or "",)
    if element.is_choice:
        return tuple(Slot(model.choice_name(name, t), t, t in PRIMITIVES, element.path) for t in kinds)
    kind = model.content_type(element, kinds[0])
    if kind in _RESOURCES:
        kind = "Resource"
    return (Slot(name, kind, kind in PRIMITIVES, element.path),)


@cache
def member_of_key(type_name: str, key: str) -> tuple[str, Slot] | None:
    """The member a JSON key of the type belongs to (`valueQuantity` to `value`), or None."""
    field = model.field(type_name, key)
    if field is None:
        return None
    name = field.element.name
    return next(((name, slot) for slot in slots(type_name, name) or () if slot.key == key), None)


@cache
def public_name(type_name: str) -> str:
    """The name `type()` gives: the definition path of a nested element is a BackboneElement."""
    return "BackboneElement" if "." in type_name and not type_name.startswith("System.") else type_name


@cache
def resolve_type(name: str) -> str | None:
    """The type a specifier names, the model's first, then System's; None when there is none (section Models)."""
    space, _, bare = name.rpartition(".")
    if space in ("", "FHIR") and (bare in PRIMITIVES or bare in model.TYPES):
        return bare
    if space in ("", "System") and (f"System.{bare}" in SYSTEM or bare in model.TYPES):
        # `System.Patient` names a type of the other model: known, and nothing is of it.
        return f"System.{bare}"
    return None


@cache
def is_a(type_name: str, ancestor: str) -> bool:
    """Whether a value of the type is one of the ancestor: the same type or derived from it."""
    if type_name == ancestor or ancestor == "System.Any":
        return True
    if type_name.startswith("System."):
        return False
    return model.is_a(type_name, ancestor)


@cache
def is_resource_type(name: str) -> bool:
    """Whether the name is a resource's, abstract ones included."""
    return name in _RESOURCES or name in model.RESOURCE_TYPES
