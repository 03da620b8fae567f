"""What requests leave behind: reference cycles would be looked for by the collector, 10 µs a search."""

from __future__ import annotations

import gc
from collections import Counter
from typing import Any

import pytest

from fhir_server.store import Store
from tests.hospital import Hospital, open_audited

CONDITION = {
    "resourceType": "Condition",
    "id": "c1",
    "subject": {"reference": "Patient/P1"},
    "code": {"text": "cough"},
}
ROUNDS = 20


@pytest.fixture
async def hospital(store: Store) -> Hospital:
    return await open_audited(store, bytes(32))


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("method", "url", "body"),
    [
        ("GET", "Condition/c1", None),
        ("GET", "Condition/c1/_history", None),
        ("GET", "Condition?patient=P1&_sort=_lastUpdated&_total=accurate", None),
        ("GET", "Condition?patient=P1&_include=Condition:patient", None),
        ("GET", "Condition?patient.name=a", None),
        ("GET", "Patient?_has:Condition:patient:code=x", None),
        ("PUT", "Condition/c1", CONDITION),
        ("POST", "Condition", {name: value for name, value in CONDITION.items() if name != "id"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_no_cycles(hospital: Hospital, method: str, url: str, body: Any) -> None:
    """References alone free what a request made."""
    await hospital.ask(hospital.admin, method, url, body)
    gc.collect()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        for _ in range(ROUNDS):
            answer = await hospital.ask(hospital.admin, method, url, body)
            assert answer.status < 300
        gc.collect()
        kinds = Counter(type(each).__name__ for each in gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
    assert {kind: count for kind, count in kinds.items() if count >= ROUNDS} == {}
