"""Whom a consent means: what a user belongs to, and the patients who have an identifier."""

from __future__ import annotations

from collections.abc import Collection
from itertools import islice
from typing import Any

from fhir_server.ids import local_name
from fhir_server.store import Store, Stored
from fhir_server.store.find.page import find
from profiles.json import decode
from search.params import Registry
from search.query import parse
from smart_auth.consents import escaped

MOST = 100  # roles, teams or groups of one user
AT_ONCE = 50  # identifiers of one search
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


async def patients_by(
    identifiers: Collection[tuple[str, str]], store: Store, registry: Registry
) -> dict[tuple[str, str], list[str]]:
    """The ids of the patients who have each of the identifiers (system or empty, value)."""
    known: dict[tuple[str, str], list[str]] = {}
    rest = iter(sorted(identifiers))
    while some := list(islice(rest, AT_ONCE)):
        tokens = ["|".join(map(escaped, filter(None, pair))) for pair in some]
        for row in await _found("Patient", "identifier", tokens, store, registry, MOST * 10):
            patient: Any = decode(row.body or b"{}")
            held = [(each.get("system", ""), each.get("value")) for each in patient.get("identifier", ())]
            for system, value in some:
                if (system, value) in held or (not system and value in [text for _, text in held]):
                    known.setdefault((system, value), []).append(row.id)
    return known


async def _found(
    kind: str, code: str, names: list[str], store: Store, registry: Registry, most: int = MOST
) -> list[Stored]:
    pairs = [(code, ",".join(names)), ("_count", str(most)), ("_total", "none")]
    return (await find(store, parse(kind, pairs, registry), registry=registry)).matches


def _organization(role: Stored, base: str) -> str | None:
    resource: Any = decode(role.body or b"{}")
    return local_name(str(resource.get("organization", {}).get("reference", "")), base)
