"""GraphQL's names for what FHIR names otherwise: inner types, search parameters, references (R4 graphql.html)."""

from __future__ import annotations

import re
from functools import lru_cache

from profiles.model import RESOURCE_TYPES, TYPES, ancestors
from search.params import Parameter, Registry

NAME = re.compile(r"[_A-Za-z][_0-9A-Za-z]*", re.ASCII)
# "The search parameters _include, _revinclude, _contained, _containedType are not supported"; `_filter` is told apart.
LEFT_OUT = frozenset(("_include", "_revinclude", "_contained", "_containedType", "_filter", "_query"))
ANY = "Resource"
UNNAMED = frozenset(("DomainResource", "BackboneElement"))


def type_name(fhir: str) -> str:
    """`Patient.contact` is `PatientContact`; `Task.input` makes way for the `TaskInput` of mutations."""
    head, *inner = fhir.split(".")
    name = head + "".join(part[:1].upper() + part[1:] for part in inner)
    return f"{name}Element" if name.endswith("Input") else name


FHIR_NAMES = {
    type_name(name): name for name, row in TYPES.items() if row.kind != "primitive-type" and name not in UNNAMED
}


def argument_name(code: str) -> str:
    """`clinical-status` is `clinical_status`."""
    return code.replace("-", "_")


@lru_cache(maxsize=512)
def arguments_of(registry: Registry, type: str) -> dict[str, Parameter]:
    """The search parameters of a type by the names of their arguments."""
    rows = ((argument_name(row.code), row) for row in registry.of(type) if row.code not in LEFT_OUT)
    return {name: row for name, row in rows if NAME.fullmatch(name)}


@lru_cache(maxsize=512)
def referring(registry: Registry, type: str) -> frozenset[str]:
    """The types with a search parameter that may lead to resources of the type."""
    rows = (row for row in registry.rows.values() if row.type == "reference")
    leading = {base for row in rows if not row.targets or {type, ANY} & set(row.targets) for base in row.bases}
    return frozenset(name for name in RESOURCE_TYPES if not leading.isdisjoint(ancestors(name)))
