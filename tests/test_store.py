"""The store on a real mongod: versions, tombstones, history, races."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fhir_server.store import New, Search, Store, Stored, instant, open_store, snapshot_of, snapshot_text
from fhir_server.store.bodies import INLINE_LIMIT
from fhir_server.store.together import kind
from fhir_server.store.transaction import Transaction
from profiles.outcome import FhirError

pytestmark = pytest.mark.anyio


def version_of(after: Stored | None = None, *, type: str = "Patient", id: str = "1", **changes: Any) -> New:
    """The first version of a resource, or the next one."""
    version = after.version + 1 if after else 1
    fields: dict[str, Any] = {
        "version": version,
        "at": instant(datetime.now(UTC), after),
        "body": b'{"v":%d}' % version,
        "entries": (f"{type}|{id}",),
        "compartment": f"{type}/{id}",
        "method": "PUT" if after else "POST",
    }
    return New(type, id, **{**fields, **changes})


async def versions(store: Store, count: int, **which: Any) -> Stored:
    """A resource with so many versions."""
    stored = await store.create(version_of(**which))
    for _ in range(count - 1):
        stored = await store.replace(version_of(stored, **which), stored)
    return stored


async def unguarded(store: Store, id: str = "1") -> Stored:
    """An update without If-Match: read, replace, and again when another was faster."""
    while True:
        async with store.turn("Patient", id):
            current = await store.get("Patient", id)
            assert current is not None
            try:
                return await store.replace(version_of(current, id=id), current)
            except FhirError as error:
                assert error.code == "conflict"


async def test_read_returns_the_bytes_that_were_stored(store: Store) -> None:
    """What was created is read back byte for byte with its version and instant."""
    new = version_of(body='{"text":"ä 1.00"}'.encode())
    created = await store.create(new)
    stored = await store.get("Patient", "1")
    assert stored == created or stored is not None
    assert stored is not None
    assert (stored.body, stored.version, stored.at, stored.method) == (new.body, 1, new.at, "POST")
    assert list(stored.entries) == ["Patient|1"]
    assert stored.compartment == "Patient/1"


async def test_what_is_not_there_is_none(store: Store) -> None:
    """A missing resource and a missing version are no errors of the store."""
    assert await store.get("Patient", "1") is None
    assert await store.get_version("Patient", "1", 1) is None
    await store.create(version_of())
    assert await store.get_version("Patient", "1", 2) is None


async def test_create_of_a_taken_id_is_refused(store: Store) -> None:
    """The second create of an id is told so, whoever it travels with."""
    answers = await asyncio.gather(
        *(store.create(version_of(id=id)) for id in ("1", "2", "1", "3")), return_exceptions=True
    )
    faults = [answer for answer in answers if isinstance(answer, FhirError)]
    assert [(fault.code, fault.text) for fault in faults] == [("duplicate", "Patient/1 exists already.")]
    assert all([await store.get("Patient", id) for id in ("1", "2", "3")])


async def test_every_version_stays_readable(store: Store) -> None:
    """An update keeps what it supersedes."""
    await versions(store, 12)
    found = [await store.get_version("Patient", "1", number) for number in range(1, 13)]
    assert [stored.body for stored in found if stored] == [b'{"v":%d}' % number for number in range(1, 13)]


async def test_delete_leaves_a_tombstone_and_versions_go_on(store: Store) -> None:
    """After a delete the resource is found as deleted, not searched, and can come back as the next version."""
    first = await store.create(version_of())
    gone = await store.delete("Patient", "1", 1, instant(datetime.now(UTC), first))
    read = await store.get("Patient", "1")
    assert read is not None and read.deleted and read.body is None and read.version == 2
    assert await store.reads.count({"s": "Patient|1"}) == 0
    back = await store.replace(version_of(gone), gone)
    assert back.version == 3
    deleted = await store.get_version("Patient", "1", 2)
    assert deleted is not None and deleted.deleted


async def test_replace_of_an_overtaken_version_is_a_conflict(store: Store) -> None:
    """The guard holds whether the caller passes the number or the version it read."""
    old = await versions(store, 1)
    await store.replace(version_of(old), old)
    for expected in (old, 1):
        with pytest.raises(FhirError, match="Patient/1 was changed by another request meanwhile") as caught:
            await store.replace(version_of(old), expected)
        assert caught.value.status == 409
    with pytest.raises(FhirError, match="changed by another"):
        await store.replace(version_of(old, id="none"), 1)
    with pytest.raises(FhirError, match="changed by another"):
        await store.delete("Patient", "none", 1, datetime.now(UTC))


async def test_one_of_a_hundred_guarded_updates_wins(store: Store) -> None:
    """100 parallel updates of the same version, one success, 99 conflicts, history without a gap."""
    current = await versions(store, 1)
    answers = await asyncio.gather(
        *(store.replace(version_of(current), current) for _ in range(100)), return_exceptions=True
    )
    assert Counter(a.code if isinstance(a, FhirError) else "won" for a in answers) == {"won": 1, "conflict": 99}
    assert [s.version for s in (await store.history("Patient", "1")).versions] == [2, 1]


async def test_two_hundred_updates_of_one_resource(mongo_url: str, database: str, store: Store) -> None:
    """200 parallel updates, also from two processes' stores, make versions 1 to 201."""
    await versions(store, 1)
    other = await open_store(mongo_url, database)
    await asyncio.gather(*(unguarded(each) for _ in range(100) for each in (store, other)))
    await other.close()
    page = await store.history("Patient", "1", count=300)
    assert [stored.version for stored in page.versions] == list(range(201, 0, -1))
    assert len({stored.at for stored in page.versions}) == 201


async def test_updates_of_many_resources_travel_together(store: Store) -> None:
    """In a batch with a loser the others succeed, and each gets its own answer."""
    first = [await store.create(version_of(id=str(n))) for n in range(20)]
    await store.replace(version_of(first[7], id="7"), first[7])
    answers = await asyncio.gather(
        *(store.replace(version_of(old, id=old.id), old) for old in first), return_exceptions=True
    )
    assert [n for n, answer in enumerate(answers) if isinstance(answer, FhirError)] == [7]
    assert {(await store.get("Patient", str(n))).version for n in range(20)} == {2}  # type: ignore[union-attr]


async def test_a_large_body_goes_to_gridfs_and_comes_back(store: Store) -> None:
    """A body over the document limit is read back in every interaction, superseded too."""
    large = b"x" * (INLINE_LIMIT + 1)
    first = await store.create(version_of(type="Binary", body=large))
    read = await store.get("Binary", "1")
    assert read is not None and read.body == large
    second = await store.replace(version_of(first, type="Binary", body=large + b"2"), read)
    assert second.body == large + b"2"
    old = await store.get_version("Binary", "1", 1)
    assert old is not None and old.body == large
    sizes = [len(s.body or b"") for s in (await store.history("Binary", "1")).versions]
    assert sizes == [len(large) + 1, len(large)]
    with pytest.raises(FhirError, match="exists already"):
        await store.create(version_of(type="Binary", body=large))
    assert len(await store.reads.find_documents({}, collection="blobs.files")) == 2


async def test_history_of_an_instance_pages_without_gap(store: Store) -> None:
    """Pages joined are the whole history, newest first, with its exact size."""
    await versions(store, 130)
    seen, cursor = [], None
    while True:
        page = await store.history("Patient", "1", count=40, cursor=cursor)
        assert page.total == 130
        seen += [stored.version for stored in page.versions]
        cursor = page.cursor
        if cursor is None:
            break
    assert seen == list(range(130, 0, -1))
    assert (await store.history("Patient", "1", count=0)).total == 130
    assert (await store.history("Patient", "none")).versions == []


@pytest.mark.parametrize("which", [(None, None), ("Patient", None)])
async def test_history_of_a_type_or_all_pages_under_writes(store: Store, which: tuple[str | None, None]) -> None:
    """Versions that were there are listed exactly once although they are superseded between two pages."""
    ids = ["a", "a-b", "a.b", "ab", "b"]
    at = instant(datetime.now(UTC))
    for id in ids:
        await store.create(version_of(id=id, at=at))
    for id in ids:
        current = await store.get("Patient", id)
        assert current is not None
        await store.replace(version_of(current, id=id), current)
    wanted = {(id, number) for id in ids for number in (1, 2)}
    await store.create(version_of(type="Practitioner", id="p"))
    wanted |= set() if which[0] else {("p", 1)}
    seen: list[Stored] = []
    cursor = None
    while True:
        page = await store.history(*which, count=2, cursor=cursor)
        seen += page.versions
        cursor = page.cursor
        if cursor is None:
            break
        current = await store.get("Patient", ids[len(seen) % 5])
        assert current is not None
        await store.replace(version_of(current, id=current.id), current)
    listed = Counter((stored.id, stored.version) for stored in seen)
    assert {key: listed[key] for key in wanted} == dict.fromkeys(wanted, 1)
    assert [s.at for s in seen] == sorted((s.at for s in seen), reverse=True)


async def test_history_since_and_at(store: Store) -> None:
    """http.html#history: `_since` is from an instant on, `_at` what was current at some time of a period."""
    start = datetime(2024, 1, 1, tzinfo=UTC)
    days = [start + timedelta(days=n) for n in range(5)]
    stored = await store.create(version_of(at=days[0]))
    for day in days[1:4]:
        stored = await store.replace(version_of(stored, at=day), stored)
    await store.delete("Patient", "1", stored, days[4])
    hour = timedelta(hours=1)
    for which in (("Patient", "1"), ("Patient", None), (None, None)):
        since = await store.history(*which, since=days[2])
        assert ([s.version for s in since.versions], since.total) == ([5, 4, 3], 3)
        noon = await store.history(*which, at=(days[1] + hour, days[1] + 2 * hour))
        assert ([s.version for s in noon.versions], noon.total) == ([2], 1)
        span = await store.history(*which, at=(days[0] + hour, days[2] + hour))
        assert [s.version for s in span.versions] == [3, 2, 1]
        assert (await store.history(*which, at=(start - hour, start))).versions == []
    assert [s.deleted for s in (await store.history("Patient")).versions] == [True, False, False, False, False]


async def test_a_copy_left_by_a_crash_is_listed_once(store: Store) -> None:
    """DESIGN §2: a superseded copy of a version that is still current is harmless."""
    current = await versions(store, 2)
    old = await store.driver.resources.find_one({"_id": "Patient/1"})
    assert old is not None
    copy = {key: old[key] for key in ("v", "at", "m", "body", "p")}
    copy |= {"_id": "Patient/1/_history/2", "r": "Patient/1", "until": current.at + timedelta(days=1)}
    await store.driver.history.insert_one(copy)
    for which in (("Patient", "1"), ("Patient", None), (None, None)):
        assert [s.version for s in (await store.history(*which)).versions] == [2, 1]
    third = await store.replace(version_of(current), current)
    assert [s.version for s in (await store.history("Patient", at=(third.at, None))).versions] == [3]


async def test_snapshot_reads_see_one_state(store: Store) -> None:
    """The second page sees what the first one saw; one that is too old is told so, 410."""
    await versions(store, 1)
    snapshot = store.snapshot()
    assert len(await snapshot.find_documents({})) == 1
    assert snapshot.at is not None
    await store.create(version_of(id="2"))
    later = store.snapshot(snapshot_of(snapshot_text(snapshot.at)))
    assert len(await later.find_documents({}, sort={"_id": 1})) == 1
    assert await later.count({}) == 1
    assert len(await store.snapshot().aggregate([{"$match": {}}])) == 2
    with pytest.raises(FhirError, match="no longer available") as caught:
        await store.snapshot(snapshot_of("10.1")).find_documents({})
    assert (caught.value.code, caught.value.status) == ("expired", 410)


async def test_a_find_over_many_batches(store: Store) -> None:
    """Results beyond 16 MB come in several batches."""
    body = b"x" * 1_000_000
    await asyncio.gather(*(store.create(version_of(id=str(n), body=body)) for n in range(20)))
    assert len(await store.reads.find_documents({})) == 20
    assert len(await store.reads.find_documents({}, limit=18)) == 18


async def test_content_the_database_cannot_hold_is_refused(store: Store) -> None:
    """A request of content that the driver refuses is answered 4xx, and its neighbours are stored."""
    with pytest.raises(FhirError) as caught:
        await store.create(version_of(entries=["x" * 17_000_000]))
    assert caught.value.status == 413
    with pytest.raises(FhirError) as caught:
        await store.create(version_of(entries=["\ud800"]))
    assert caught.value.status == 400


async def test_a_nearly_full_disk_stops_writes_not_reads(store: Store) -> None:
    """Writes are answered 503 with Retry-After, reads go on."""
    stored = await versions(store, 1)
    store.read_only = True

    async def nothing(tx: Transaction) -> None:
        return None

    for write in (store.create(version_of(id="2")), store.replace(version_of(stored), 1), store.transaction(nothing)):
        with pytest.raises(FhirError, match="disk is nearly full") as caught:
            await write
        assert (caught.value.status, caught.value.headers) == (503, {"Retry-After": "60"})
    assert await store.get("Patient", "1") == stored or stored


async def test_close_answers_what_is_queued(mongo_url: str, database: str) -> None:
    """Writes that were accepted before close are carried out and answered."""
    store = await open_store(mongo_url, database)
    writes = [asyncio.ensure_future(store.create(version_of(id=str(n)))) for n in range(50)]
    await asyncio.sleep(0)
    await store.close()
    assert all(isinstance(answer, Stored) for answer in await asyncio.gather(*writes))


async def test_searches_that_arrive_together_get_their_own_answers(store: Store) -> None:
    """Each has its documents in its order and up to its limit, all at one instant."""
    await asyncio.gather(*(store.create(version_of(id=str(n), entries=("all", f"n|{n % 3}"))) for n in range(9)))
    await asyncio.gather(*(store.get("Patient", "0") for _ in range(3)))
    searches = [Search({"s": f"n|{n}"}, {"_id": 1 if n else -1}, 2) for n in range(4)]
    lone = await store.find_together(searches[0])
    answers = await asyncio.gather(*(store.find_together(search) for search in searches * 3))
    assert [[row["_id"][-1] for row in rows] for rows, _ in answers] == [["6", "3"], ["1", "4"], ["2", "5"], []] * 3
    assert answers[0][0] == lone[0]
    assert "q" not in answers[2][0][0]
    later = store.snapshot(answers[5][1])
    assert await later.count({"s": "all"}) == 9


async def test_a_faulty_search_fails_alone(store: Store) -> None:
    """What one search does wrong is not told to those that travel with it."""
    await store.create(version_of())
    bad = Search({"s": {"$nonsense": 1}}, {"_id": 1}, 5)
    good = Search({"s": "Patient|1"}, {"_id": 1}, 5)
    answers = await asyncio.gather(*map(store.find_together, (good, bad, good, good)), return_exceptions=True)
    assert [len(answer[0]) if isinstance(answer, tuple) else answer.status for answer in answers] == [1, 500, 1, 1]


async def test_a_slow_kind_of_search_goes_alone(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search that held up others is answered, and its kind keeps out of their way for a while."""
    await asyncio.gather(*(store.create(version_of(id=str(n))) for n in range(50)))
    napping = {
        "$expr": {
            "$gt": [
                {
                    "$strLenBytes": {
                        "$reduce": {
                            "input": {"$range": [0, {"$multiply": [{"$strLenBytes": "$_id"}, 200]}]},
                            "initialValue": "",
                            "in": {"$concat": ["$$value", "x"]},
                        }
                    }
                },
                0,
            ]
        }
    }
    slow = Search({"$and": [{"_id": {"$gte": ""}}, napping]}, {"_id": 1}, 50)
    quick = Search({"s": "Patient|1"}, {"_id": 1}, 5)
    monkeypatch.setattr("fhir_server.store.together.QUICK", 5)
    monkeypatch.setattr("fhir_server.store.together.SLOW", 0.005)
    answers = await asyncio.gather(*map(store.find_together, (quick, quick, slow)))
    assert [len(rows) for rows, _ in answers] == [1, 1, 50]
    assert kind(slow) in store._together._slow
    assert len((await store.find_together(slow))[0]) == 50


async def test_a_kind_that_is_slow_again_stays_alone_for_longer(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy moment is forgotten after a second; what is slow each time stays alone for up to a minute."""
    now = 100.0
    monkeypatch.setattr("fhir_server.store.together._now", lambda: now)
    together, spans = store._together, []
    for _ in range(9):
        together._remember("kind")
        together._remember("kind")  # a neighbour of the same moment
        spans.append(together._slow["kind"][1])
        now = together._slow["kind"][0] + 0.1
    assert spans == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    now += 61
    together._remember("kind")
    assert together._slow["kind"][1] == 1
