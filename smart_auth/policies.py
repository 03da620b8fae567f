"""Roles as data: rows of types, verbs, search clauses and hidden elements; what no row allows is refused."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from profiles.model import element
from profiles.outcome import FhirError
from smart_auth.formulas import Pair
from smart_auth.scopes import VERBS

# http://terminology.hl7.org/CodeSystem/v3-Confidentiality, from the least to the most restricted.
CONFIDENTIALITY = ("U", "L", "M", "N", "R", "V")
# What a policy may allow beyond resources: the pages and commands that carry these names.
RIGHTS = frozenset({"users", "clients", "policies", "audit", "launch", "introspect", "export", "jobs"})

NESTED = ("BackboneElement", "Element")


@dataclass(frozen=True, slots=True)
class Row:
    """One rule: these verbs on these types, within `where` and, when `own`, within the user's own compartments.

    `hidden` names elements (`Patient.telecom`) that this rule does not show. `{fhirUser}` in a value of `where` stands
    for the user's own resource.
    """

    types: tuple[str, ...]
    verbs: str
    where: tuple[Pair, ...] = ()
    own: bool = False
    hidden: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Policy:
    """A role: its rows, the most restricted confidentiality and the sensitive labels it may see, and its rights."""

    name: str
    rows: tuple[Row, ...]
    clearance: str = "N"
    labels: frozenset[str] = frozenset()
    rights: frozenset[str] = frozenset()
    break_glass: bool = False


def policy(data: Mapping[str, Any]) -> Policy:
    """A policy from its JSON form; a name it does not know is an error, so that a typing error cannot widen it."""
    _only(data, {"name", "rows", "clearance", "labels", "rights", "break_glass", "description"}, "policy")
    clearance = data.get("clearance", "N")
    rights = frozenset(data.get("rights", ()))
    if clearance not in CONFIDENTIALITY or not rights <= RIGHTS:
        raise FhirError("value", f"The policy {data.get('name')!r} has an unknown clearance or right.")
    return Policy(
        name=data["name"],
        rows=tuple(_row(row) for row in data.get("rows", ())),
        clearance=clearance,
        labels=frozenset(data.get("labels", ())),
        rights=rights,
        break_glass=bool(data.get("break_glass", False)),
    )


def _row(data: Mapping[str, Any]) -> Row:
    _only(data, {"types", "verbs", "where", "own", "hidden"}, "row")
    verbs = data["verbs"]
    if not verbs or not set(verbs) <= set(VERBS) or not data["types"]:
        raise FhirError("value", f"A row of a policy needs types and verbs out of {VERBS!r}, not {verbs!r}.")
    for name in data.get("hidden", ()):
        _check_element(name)
    pairs = tuple((name, value) for name, _, value in (clause.partition("=") for clause in data.get("where", ())))
    return Row(tuple(data["types"]), verbs, pairs, bool(data.get("own", False)), frozenset(data.get("hidden", ())))


def _check_element(name: str) -> None:
    """Refuse a hidden element that does not exist: misspelt, or a choice without `[x]`, it would be shown."""
    kind, *path = name.split(".")
    for step in path or [""]:
        found = element(kind, step.removesuffix("[x]"))
        if found is None or found.is_choice != step.endswith("[x]"):
            raise FhirError("value", f"A policy hides {name!r}, which is no element of R4.")
        kind = found.ref or (f"{kind}.{step}" if found.types[0] in NESTED else found.types[0])


def _only(data: Mapping[str, Any], known: set[str], what: str) -> None:
    unknown = set(data) - known
    if unknown:
        raise FhirError("value", f"A {what} has no {sorted(unknown)[0]!r}; it may have {', '.join(sorted(known))}.")


@cache
def default_policies() -> Mapping[str, Mapping[str, Any]]:
    """The roles a new tenant starts with, in their JSON form by name."""
    rows = json.loads(files("smart_auth").joinpath("roles.json").read_bytes())
    return {row["name"]: row for row in rows}


def rights(policies: Iterable[Policy]) -> frozenset[str]:
    """The rights of all policies together."""
    return frozenset(right for each in policies for right in each.rights)
