"""Searches inside contained resources on a real mongod: what is found, and pages of it."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_server.store import Store
from profiles.json import encode
from tests.test_search_find import ask, names, only, put

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
