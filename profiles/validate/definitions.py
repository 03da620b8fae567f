"""Profiles as trees: what each element of a structure demands, ready to be checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from profiles import model
from profiles.outcome import FhirError
from profiles.validate.snapshot import element_id, snapshot

Json = dict[str, Any]
FHIR_TYPE = "http://hl7.org/fhir/StructureDefinition/structuredefinition-fhir-type"
MIN_LENGTH = "http://hl7.org/fhir/StructureDefinition/minLength"
SYSTEM_TYPES = "http://hl7.org/fhirpath/System."


@dataclass(frozen=True, slots=True)
class Kind:
    """A type an element may have, with the profiles its value or its target must fit."""

    code: str
    profiles: tuple[str, ...]
    targets: tuple[str, ...]
    aggregation: tuple[str, ...]
    versioning: str


@dataclass(slots=True)
class Definition:
    """An element of a profile; `min` and `max` are its own, `slices` those of the same element."""

    id: str
    name: str
    min: int
    max: int | None
    kinds: tuple[Kind, ...]
    source: Json
    profile: str
    children: dict[str, Definition] = field(default_factory=dict)
    slices: list[Definition] = field(default_factory=list)
    rules: tuple[Json, ...] = ()
    fixed: Any = None
    pattern: Any = None
    limits: Limits | None = None
    binding: Json | None = None
    demanding: bool = False  # pins a value down, itself or below: what a discriminator looks for

    @property
    def slicing(self) -> Json:
        found: Json = self.source.get("slicing", {})
        return found


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a value; None where there is none."""

    longest: int | None
    shortest: int | None
    least: Any
    most: Any


def choice(source: Json, prefix: str) -> Any:
    """The value of a choice such as fixed[x], pattern[x] or maxValue[x]; None when there is none."""
    return next((v for k, v in source.items() if k.startswith(prefix) and k[len(prefix)].isupper()), None)


def read_limits(source: Json) -> Limits | None:
    shortest = next((x.get("valueInteger") for x in source.get("extension", ()) if x.get("url") == MIN_LENGTH), None)
    found = (source.get("maxLength"), shortest, choice(source, "minValue"), choice(source, "maxValue"))
    return None if found == (None, None, None, None) else Limits(*found)


def read_kind(entry: Json) -> Kind:
    code = entry.get("code", "")
    if code.startswith(SYSTEM_TYPES):
        code = next((x.get("valueUrl", "") for x in entry.get("extension", ()) if x["url"] == FHIR_TYPE), "string")
    code = code.removeprefix("http://hl7.org/fhir/StructureDefinition/")
    profiles, targets, aggregation = (tuple(entry.get(k, ())) for k in ("profile", "targetProfile", "aggregation"))
    return Kind(code, profiles, targets, aggregation, entry.get("versioning", "either"))


def read_element(source: Json, profile: str) -> Definition:
    last = element_id(source).rpartition(".")[2].partition(":")[0]
    most = source.get("max", "*")
    return Definition(
        element_id(source),
        last.removesuffix("[x]"),
        source.get("min", 0),
        None if most == "*" else int(most),
        tuple(read_kind(t) for t in source.get("type", ())),
        source,
        profile,
        rules=tuple(c for c in source.get("constraint", ()) if _is_own(c)),
        fixed=choice(source, "fixed"),
        pattern=choice(source, "pattern"),
        limits=read_limits(source),
        binding=source.get("binding"),
    )


def is_base(one: Definition) -> bool:
    """Whether an element demands nothing that the base definition of its type does not demand already."""
    if one.children or one.slices or one.rules or one.limits or one.fixed is not None or one.pattern is not None:
        return False
    path = one.source.get("base", {}).get("path", one.source["path"])
    base = model.element(path.rpartition(".")[0], one.name)
    if base is None or (one.min, one.max) != (base.min, base.max) or one.source.get("slicing"):
        return False
    strength, value_set = (base.binding.strength, base.binding.value_set) if base.binding else (None, None)
    bound = one.binding or {}
    if (bound.get("strength"), bound.get("valueSet")) != (strength, value_set) and "strength" in bound:
        return False
    return base.ref is not None or _same_types(one, base)


def _same_types(one: Definition, base: model.Element) -> bool:
    if any(k.aggregation or k.versioning != "either" for k in one.kinds):
        return False
    names = {t.rpartition("/")[2] for k in one.kinds if k.code == "Reference" for t in k.targets}
    profiles = {p for k in one.kinds for p in k.profiles}
    held = tuple(k.code for k in one.kinds)
    return set(held) == set(base.types) and names == set(base.targets) and profiles == set(base.profiles)


def prune(one: Definition) -> bool:
    """Drop what the base demands anyway, so that only the profile's own demands are walked; True when nothing is left.

    Of the 45 elements of a US Core Patient 20 stay.
    """
    one.children = {name: child for name, child in one.children.items() if not prune(child)}
    for slice_ in one.slices:
        prune(slice_)
    inside = [d for child in one.children.values() for d in (child, *child.slices)]
    bound = (one.binding or {}).get("strength") == "required" and "valueSet" in (one.binding or {})
    one.demanding = one.fixed is not None or one.pattern is not None or bound or any(d.demanding for d in inside)
    return is_base(one)


def _is_own(rule: Json) -> bool:
    """A rule that the base definitions do not have already."""
    known = model.INVARIANTS.get(rule.get("key", ""))
    return known is None or known.expression != rule.get("expression", "")


def tree(structure: Json, structures: Callable[[str], Json | None]) -> Definition:
    """The root of a structure, everything below it attached."""
    url = structure.get("url", "")
    found = [read_element(e, url) for e in snapshot(structure, structures) if element_id(e)]
    if not found:
        raise FhirError("invalid", f"The structure {url} has no elements")
    by_id = {found[0].id: found[0]}
    for one in found[1:]:
        by_id[one.id] = one
        _attach(one, by_id)
    prune(found[0])
    return found[0]


def _attach(one: Definition, by_id: dict[str, Definition]) -> None:
    parent, _, last = one.id.rpartition(".")
    holder = by_id.get(parent)
    name, _, slice_name = last.partition(":")
    if slice_name:
        # A slice of a slice (`a/b`) belongs to the slice it refines.
        whole = f"{parent}.{name}" if parent else name
        outer = by_id.get(f"{whole}:{slice_name.rpartition('/')[0]}") if "/" in slice_name else None
        target = outer or by_id.get(whole)
        if target is not None:
            target.slices.append(one)
    elif holder is not None:
        holder.children[one.name] = one
