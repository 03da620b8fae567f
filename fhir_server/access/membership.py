"""What a user belongs to: the references by which a consent may name them besides their own resource."""

from __future__ import annotations

from typing import Any

from fhir_server.ids import local_name
from fhir_server.store import Store, Stored
from fhir_server.store.find.page import find
from profiles.json import decode
from search.params import Registry
from search.query import parse

MOST = 100  # roles, teams or groups of one user
# Types of actors that stand for several people.
SHARED_ACTORS = ("PractitionerRole/", "Organization/", "CareTeam/", "Group/")


async def memberships(user: str, store: Store, registry: Registry, base: str) -> frozenset[str]:
    """The user's roles with their organizations, and the teams and groups that these or the user are in."""
    roles = await _found("PractitionerRole", "practitioner", [user], store, registry)
    names = {user, *(f"PractitionerRole/{role.id}" for role in roles)}
    names |= {name for role in roles if (name := _organization(role, base))}
    for kind, code in (("CareTeam", "participant"), ("Group", "member")):
        names |= {f"{kind}/{row.id}" for row in await _found(kind, code, sorted(names), store, registry)}
    return frozenset(names)


async def _found(kind: str, code: str, names: list[str], store: Store, registry: Registry) -> list[Stored]:
    pairs = [(code, ",".join(names)), ("_count", str(MOST)), ("_total", "none")]
    return (await find(store, parse(kind, pairs, registry), registry=registry)).matches


def _organization(role: Stored, base: str) -> str | None:
    resource: Any = decode(role.body or b"{}")
    return local_name(str(resource.get("organization", {}).get("reference", "")), base)
