"""Searches inside contained resources on a real mongod: what is found, and pages of it."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_server.store import Store
from profiles.json import encode
from search.clauses import ALWAYS, Clause
from search.entries import entries
from search.matches import matches
from search.query import parse
from tests.test_search_find import REGISTRY, also, ask, names, only, put

pytestmark = pytest.mark.anyio

CONTAINED = "Medication?code=aspirin&_contained=true&_containedType=contained"


def medication(id_: str, code: str = "aspirin", status: str = "active") -> dict[str, Any]:
    return {"resourceType": "Medication", "id": id_, "status": status, "code": {"coding": [{"code": code}]}}


def request(id_: str, *inside: dict[str, Any]) -> dict[str, Any]:
    """An order that contains its medications."""
    found = {"resourceType": "MedicationRequest", "id": id_, "status": "active", "intent": "order"}
    return found | {"subject": {"reference": "Patient/p"}, "contained": list(inside)}


async def test_contained(store: Store) -> None:
    """Contained resources are found by their own values, all of one of them, as the container or themselves."""
    inside = [medication("m1"), medication("m2", "insulin", "inactive")]
    await put(store, request("r", *inside), medication("m"))
    assert names(await ask(store, "Medication?code=aspirin")) == ["Medication/m"]
    assert names(await ask(store, "Medication?code=aspirin&_contained=true")) == ["MedicationRequest/r"]
    both = "Medication?code=aspirin&_contained=both"
    assert names(await ask(store, both)) == ["Medication/m", "MedicationRequest/r"]
    shown = await ask(store, f"{both}&_containedType=contained")
    assert names(shown) == ["Medication/m", "MedicationRequest/r#m1"]
    assert shown.matches[1].body == encode(inside[0])
    assert names(await ask(store, "Medication?code=insulin&status=active&_contained=true")) == []
    assert names(await ask(store, "Medication?code=insulin&status=inactive&_contained=true")) == ["MedicationRequest/r"]
    assert names(await ask(store, "Medication?code:not=insulin&_contained=true")) == ["MedicationRequest/r"]
    assert names(await ask(store, "MedicationRequest?code=aspirin&_contained=true")) == []
    hidden = only("Medication/m")
    assert names(await ask(store, both, access=hidden)) == ["Medication/m"]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 8, 9])
@pytest.mark.parametrize("sort", ["", "&_sort=-_lastUpdated"])
async def test_pages_of_contained_resources(store: Store, count: int, sort: str) -> None:
    """No page holds more than `_count`, wherever the containers begin and end, and joined they are the whole."""
    sizes = {"a": 1, "b": 4, "c": 2, "d": 1}
    rows = {name: [f"MedicationRequest/{name}#{n}" for n in range(size)] for name, size in sizes.items()}
    for name, size in sizes.items():
        await put(store, request(name, *(medication(str(n)) for n in range(size)), medication("x", "insulin")))
    text = f"{CONTAINED}&_count={count}{sort}"
    page = await ask(store, text)
    found, pages = names(page), 1
    while page.next is not None:
        page = await ask(store, text, cursor=page.next)
        assert page.prev is None
        found, pages = found + names(page), pages + 1
        assert 0 < len(page.matches) <= count
    assert sorted(found) == sorted(name for row in rows.values() for name in row)
    assert (len(found), pages) == (8, -(-8 // count))
    assert found == [name for container in dict.fromkeys(n[18] for n in found) for name in rows[container]]


async def test_totals_of_contained_resources(store: Store) -> None:
    """They count what is shown: contained resources, or containers."""
    await put(store, request("a", medication("1"), medication("2")), request("b", medication("3")), medication("m"))
    both = CONTAINED.replace("true", "both")
    for text, total in ((CONTAINED, 3), (both, 4), (both.replace("Type=contained", "Type=container"), 3)):
        assert (await ask(store, text)).total == total
        assert (await ask(store, f"{text}&_summary=count")).total == total
        first = await ask(store, f"{text}&_count=1&_total=accurate")
        assert (len(first.matches), first.total) == (1, total)
        assert (await ask(store, f"{text}&_count=1", cursor=first.next)).total == total


def world() -> list[dict[str, Any]]:
    """Contained resources that refer to each other, to their container and to what is stored."""
    doctor = {"resourceType": "Practitioner", "id": "g", "name": [{"family": "Doc"}]}
    person = {"resourceType": "Patient", "id": "p", "generalPractitioner": [{"reference": "#g"}]}
    problem = {"resourceType": "Condition", "id": "k", "subject": {"reference": "#p"}, "contained": [person, doctor]}
    inner = {"resourceType": "Condition", "id": "c", "subject": {"reference": "#"}}
    far = {"resourceType": "Condition", "id": "d", "subject": {"reference": "Patient/stored"}}
    return [
        problem,
        {"resourceType": "Patient", "id": "home", "gender": "female", "contained": [inner]},
        {"resourceType": "Patient", "id": "stored", "gender": "male", "contained": [far]},
    ]


@pytest.mark.parametrize("how", ["true", "both"])
@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Patient?general-practitioner.family=doc", ["Condition/k#p"]),
        ("Patient?general-practitioner.family=other", []),
        ("Condition?patient.gender=female", ["Patient/home#c"]),
        ("Condition?patient.gender=male", ["Patient/stored#d"]),
        ("Condition?patient:missing=false", ["Patient/home#c", "Patient/stored#d"]),
        ("Condition?patient:missing=true", []),
        ("Patient?general-practitioner:missing=false", ["Condition/k#p"]),
    ],
)
async def test_links_within_a_document(store: Store, text: str, found: list[str], how: str) -> None:
    """What is contained refers to what stands beside it, to its container and to what is stored."""
    await put(store, *world())
    asked = await ask(store, f"{text}&_contained={how}&_containedType=contained")
    assert [name for name in names(asked) if "#" in name] == found
    container = await ask(store, f"{text}&_contained=true&_id:not=x")
    assert names(container) == [name.partition("#")[0] for name in found]


async def test_contained_and_chains_together(store: Store) -> None:
    """`_contained=both` follows a chain from what is stored as it does without it."""
    await put(store, *world(), {"resourceType": "Patient", "id": "x", "generalPractitioner": [{"reference": "#g"}]})
    text = "Condition?patient.general-practitioner.family=doc"
    assert names(await ask(store, text)) == names(await ask(store, f"{text}&_contained=both")) == ["Condition/k"]
    assert names(await ask(store, f"{text}&_contained=true")) == []


async def test_access_holds_on_the_way_out_of_a_container(store: Store) -> None:
    """What something contained refers to is looked at as far as the caller may, with few candidates and with many."""
    inner = {"resourceType": "Patient", "id": "p", "managingOrganization": {"reference": "Organization/o"}}
    outer = {"resourceType": "Condition", "id": "k", "subject": {"reference": "#p"}, "contained": [inner]}
    await put(store, outer, {"resourceType": "Organization", "id": "o", "name": "North"})
    text = "Condition?patient.organization.name=north"
    for more in ("", "&_id=k", "&patient:missing=false"):
        assert names(await ask(store, text + more)) == ["Condition/k"]
        assert names(await ask(store, text + more, access=only("Condition/k"))) == []
        assert names(await ask(store, text + more, access=only("Organization/o"))) == []
    held = "Patient?organization.name=north&_contained=true"
    assert names(await ask(store, held)) == ["Condition/k"]
    assert names(await ask(store, held, access=only("Condition/k"))) == []


async def test_many_containers(store: Store) -> None:
    """More than are looked at beforehand are asked one batch after the other, with what they refer to."""
    inner = {"resourceType": "Patient", "id": "p", "managingOrganization": {"reference": "Organization/o"}}
    outer = {"resourceType": "Condition", "subject": {"reference": "#p"}, "contained": [inner]}
    await put(store, {"resourceType": "Organization", "id": "o", "name": "North"})
    await put(store, *({**outer, "id": f"k{n:03}"} for n in range(205)))
    found = await ask(store, "Condition?patient.organization.name=north&_count=300&_total=accurate")
    assert (len(found.matches), found.total) == (205, 205)
    assert (await ask(store, "Condition?patient:missing=false&_summary=count")).total == 205
    assert names(await ask(store, "Condition?patient.organization.name=south&_count=300")) == []
    assert names(await ask(store, "Condition?patient:missing=true&_count=300")) == []


def event(id_: str, agent: str, what: str) -> dict[str, Any]:
    """An event that contains a patient."""
    inside = [{"resourceType": "Patient", "id": "p"}]
    found = {"resourceType": "AuditEvent", "id": id_, "contained": inside, "agent": [{"who": {"reference": agent}}]}
    return found | {"entity": [{"what": {"reference": "Device/d"}}, {"what": {"reference": what}}]}


async def test_contained_patients_in_access_clauses(store: Store) -> None:
    """A clause of the caller's rules knows a contained patient under each of its places, in memory and stored."""
    about = parse("AuditEvent", [("patient:missing", "false")], REGISTRY).clauses

    def access(kind: str, sought: bool = False, /) -> Clause:
        return about if kind == "AuditEvent" else ALWAYS

    events = event("a", "#p", "Device/e"), event("b", "Device/d", "#p"), event("c", "Device/d", "Device/e")
    assert [matches(about, entries(e, REGISTRY), e) for e in events] == [True, True, False]
    await put(store, {"resourceType": "Device", "id": "d"}, *events)
    assert names(await ask(store, "AuditEvent", access=access)) == ["AuditEvent/a", "AuditEvent/b"]
    found = await ask(store, "Device?_revinclude=AuditEvent:entity", access=access)
    assert also(found) == ["AuditEvent/a", "AuditEvent/b"]
