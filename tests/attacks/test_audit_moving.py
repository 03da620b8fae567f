"""docs/security.md, Audit: events go from the journal to where they are searched, at leisure and without a loss."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from fhir_server.access import moving
from fhir_server.access.auditing import Trail
from fhir_server.access.moving import looks_at_trail
from fhir_server.access.telling import NOBODY, facts_of, rows_of
from fhir_server.answers.respond import Response
from fhir_server.context import Request
from fhir_server.store import Store, audit
from profiles.outcome import FhirError
from smart_auth.audit import Facts
from tests.hospital import Hospital, faults, open_audited
from tests.shell import content

KEY = bytes(32)


@pytest.fixture
async def hospital(store: Store) -> Hospital:
    return await open_audited(store, KEY)


async def stored(hospital: Hospital) -> int:
    """How many AuditEvents can be searched by now."""
    store: Any = hospital.context.store
    return int(await store.reads.count({"_id": {"$gte": "AuditEvent/", "$lt": "AuditEvent0"}}))


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("url", "caller"),
    [
        ("AuditEvent?patient=P1", "auditor"),
        ("?_type=AuditEvent", "auditor"),
        ("AuditEvent/_history", "auditor"),
        ("Patient/P1/AuditEvent", "auditor"),
        ("Condition?_id=c1&_revinclude=AuditEvent:entity", "admin"),
        ("Patient/P1/$everything?_type=AuditEvent", "admin"),
    ],
)
async def test_pending_events_are_seen_at_once(hospital: Hospital, url: str, caller: str) -> None:
    """However AuditEvents are asked for, what was answered before is among them."""
    auditor = hospital.caller("user/*.rs", "Auditor", user="audrey")
    await hospital.ask(hospital.doctor, "GET", "Condition/c1")
    assert await stored(hospital) == 0
    answer = await hospital.ask(auditor if caller == "auditor" else hospital.admin, "GET", url)
    found = [row["resource"] for row in content(answer)["entry"]]
    assert [each["subtype"][0]["code"] for each in found if each["resourceType"] == "AuditEvent"] == ["read"]


@pytest.mark.anyio
async def test_other_requests_do_not_wait_for_the_trail(hospital: Hospital) -> None:
    """Reads, searches and writes of other data leave the events where they are, and so do callers who see none."""
    for url in ("Condition/c1", "Condition?patient=P1", "Condition/_history"):
        assert (await hospital.ask(hospital.doctor, "GET", url)).status == 200
    assert (await hospital.ask(hospital.nurse, "GET", "AuditEvent")).status == 403
    assert await stored(hospital) == 0


@pytest.mark.anyio
async def test_a_trail_that_is_far_behind_is_told_of(hospital: Hospital, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search that cannot wait for all events says so, and the next one has them."""
    auditor = hospital.caller("user/*.rs", "Auditor", user="audrey")
    await hospital.ask(hospital.doctor, "GET", "Condition/c1")
    monkeypatch.setattr("fhir_server.access.admission.PATIENCE", -1.0)
    found = content(await hospital.ask(auditor, "GET", "AuditEvent"))
    [entry] = found["entry"]
    assert entry["search"]["mode"] == "outcome"
    assert entry["resource"]["issue"][0]["diagnostics"] == moving.BEHIND
    monkeypatch.undo()
    found = content(await hospital.ask(auditor, "GET", "AuditEvent"))
    assert {row["search"]["mode"] for row in found["entry"]} == {"match"}
    assert found["total"] == 2  # the first look at the trail is told too


@pytest.mark.anyio
async def test_a_bundle_does_not_wait_for_itself(hospital: Hospital, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line of an entry goes out although its Bundle is still at work."""
    monkeypatch.setattr("fhir_server.store.batches.PATIENCE", 30.0)
    sent = {"resourceType": "Bundle", "type": "batch", "entry": [{"request": {"method": "GET", "url": "Condition/c1"}}]}
    answer = await asyncio.wait_for(hospital.ask(hospital.doctor, "POST", "", sent), 10)
    assert answer.status == 200


@pytest.mark.anyio
async def test_the_mover_leaves_the_time_to_others(hospital: Hospital, monkeypatch: pytest.MonkeyPatch) -> None:
    """While requests come in few events move; who asks for them does not wait for the pause, and when idle all move."""
    monkeypatch.setattr(moving, "IDLE", 0.0)
    trail: Any = hospital.context.trail
    await asyncio.gather(*(trail.note("login", {"user": f"u{n}"}) for n in range(400)))
    busy = True

    async def others() -> None:
        while busy:
            await hospital.ask(hospital.doctor, "GET", "Condition/c1")

    load, mover = asyncio.create_task(others()), asyncio.create_task(trail.run())
    try:
        await asyncio.sleep(0.5)
        under_load = await stored(hospital)
        assert under_load < 200
        assert await asyncio.wait_for(trail.move(20.0), 25)
        assert await stored(hospital) >= 400
        busy = False
        await load
        for _ in range(400):
            if not await trail.journal.open(10**9):
                break
            await asyncio.sleep(0.05)
        assert not await trail.journal.open(10**9)
    finally:
        busy = False
        await load
        mover.cancel()
    assert await faults(hospital) == []


@pytest.mark.anyio
async def test_a_server_with_time_on_its_hands_moves_all(hospital: Hospital, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests that come one by one, with time between them, keep no event waiting."""
    monkeypatch.setattr(moving, "IDLE", 0.0)
    trail: Any = hospital.context.trail
    await asyncio.gather(*(trail.note("login", {"user": f"u{n}"}) for n in range(400)))
    mover = asyncio.create_task(trail.run())
    try:
        for _ in range(70):
            await hospital.ask(hospital.doctor, "GET", "Condition/c1")
            await asyncio.sleep(0.02)
            if await stored(hospital) >= 400:
                break
        else:
            pytest.fail(f"only {await stored(hospital)} of 400 events have moved on")
    finally:
        mover.cancel()


@pytest.mark.anyio
async def test_one_worker_moves_at_a_time(hospital: Hospital, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several workers on one database one moves what all have told, and another goes on when it is gone."""
    monkeypatch.setattr(moving, "IDLE", 0.0)
    workers = [Trail(replace(hospital.context, trail=None), KEY) for _ in range(3)]
    journal = hospital.context.trail.journal
    await asyncio.gather(*(workers[n % 3].note("login", {"user": f"u{n}"}) for n in range(300)))
    movers = [asyncio.create_task(worker.run()) for worker in workers]
    try:
        for _ in range(400):
            if await stored(hospital) == 300 and not await journal.open(10**9):
                break
            await asyncio.sleep(0.05)
        moved = [link.of for link in await journal.walk() if link.of]
        assert sorted(moved) == sorted({*moved})
        assert await stored(hospital) == 300
    finally:
        for mover in movers:
            mover.cancel()
    led = [await worker.journal.lead() for worker in workers]
    assert sum(led) == 1
    monkeypatch.setattr(audit, "LEASE", timedelta(0))
    assert await workers[led.index(True)].journal.lead()
    await asyncio.sleep(0.01)
    assert await workers[led.index(False)].journal.lead()


@pytest.mark.anyio
@pytest.mark.parametrize("call", range(1, 7))
async def test_a_crash_on_the_way_loses_nothing(hospital: Hospital, store: Store, call: int) -> None:
    """Whichever call of moving is the last one, the next start moves the rest, each event once."""
    for _ in range(3):
        await hospital.ask(hospital.doctor, "GET", "Condition/c1")
    dying = Trail(replace(hospital.context, trail=None), KEY)
    made, usual = 0, store.driver.call

    async def dies(operation: Any, /, *args: Any, **options: Any) -> Any:
        nonlocal made
        made += 1
        if made >= call:
            raise FhirError("transient", "gone")
        return await usual(operation, *args, **options)

    store.driver.call = dies  # type: ignore[method-assign]
    try:
        with pytest.raises(FhirError):
            await dying.move()
    finally:
        store.driver.call = usual  # type: ignore[method-assign]
    fresh = Trail(replace(hospital.context, trail=None), KEY)
    assert await fresh.move()
    assert await stored(hospital) == 3
    assert await faults(hospital) == []


@pytest.mark.anyio
async def test_lines_of_older_servers_become_events(hospital: Hospital, store: Store) -> None:
    """A line that holds the facts as they are, with its own id and instant, is still read."""
    facts = Facts("read", 200, "Condition", "c1", "1", ("P1",), client="app", user="dora", roles=("Doctor",))
    line = msgspec.json.encode(("old-1", "2026-05-01T12:00:00.000Z", "", facts))
    await hospital.context.trail.journal.append(b"told\n" + line, open=True)
    assert await hospital.context.trail.move()
    assert (await store.get("AuditEvent", "old-1")) is not None
    assert await faults(hospital) == []


@pytest.mark.parametrize(
    ("parts", "query", "interaction", "looks"),
    [
        (("AuditEvent",), [], "search-type", True),
        (("AuditEvent", "1"), [], "read", True),
        (("Patient", "1", "*"), [], "search-type", True),
        ((), [("_lastUpdated", "gt2020")], "search-system", True),
        (("Patient",), [("_has:AuditEvent:patient:action", "R")], "search-type", True),
        (("Patient",), [("_revinclude", "*")], "search-type", True),
        (("Patient", "1", "$everything"), [], "operation", True),
        ((), [], "batch", False),
        (("Patient", "1"), [], "read", False),
        (("Patient",), [("name", "Ada")], "search-type", False),
    ],
)
def test_what_may_show_events(parts: tuple[str, ...], query: Any, interaction: str, looks: bool) -> None:
    """Only what may have AuditEvents in its answer is held up by them."""
    assert looks_at_trail(Request("GET", parts, query), interaction) is looks


def test_a_row_of_the_journal_keeps_nothing_of_a_failure() -> None:
    """Neither id nor query nor patient of what was refused is in the journal."""
    request = Request("GET", ("Condition", "secret"), [("code", "secret")], peer="10.0.0.1")
    [row] = rows_of(request, "search-type", FhirError("not-found", "secret"), NOBODY)
    assert "secret" not in str(row)
    facts = facts_of(msgspec.json.decode(msgspec.json.encode(row)))
    assert (facts.type, facts.id, facts.query, facts.status, facts.client) == ("Condition", "", "", 404, "anonymous")


def test_a_query_is_told_as_it_was_asked() -> None:
    """The pairs of a search become its text when the event is made."""
    request = Request("GET", ("Condition",), [("code", "a|b"), ("note", "ä &")])
    [row] = rows_of(request, "search-type", Response(200), NOBODY)
    facts = facts_of(msgspec.json.decode(msgspec.json.encode(row)))
    assert facts.query == "Condition?code=a%7Cb&note=%C3%A4+%26"
