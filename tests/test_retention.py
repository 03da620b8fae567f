"""docs/security.md: the audit trail is kept as long as the configuration says, and the rest is still proven."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fhir_server.access import retention
from fhir_server.access.auditing import Trail
from fhir_server.commands.audit import archive_faults, exported
from fhir_server.store import Store
from profiles.outcome import FhirError
from smart_auth import chain
from tests.shell import context_on
from tests.smart_world import Clock

pytestmark = pytest.mark.anyio
KEY = bytes(32)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def trail(store: Store, clock: Clock) -> Trail:
    """Three events of a long time ago, and two of now."""
    made = Trail(replace(context_on(store), now=clock), KEY)
    await made.journal.prepare()
    now = clock.at
    for days in (400, 390, 380, 0, 0):
        clock.at = now - timedelta(days=days)
        await made.note("login", {"user": f"u{days}"})
        await made.move()
    return made


def database(trail: Trail) -> Any:
    return trail.store.driver.database


async def faults(trail: Trail) -> list[str]:
    return [fault async for fault in trail.verify()]


async def users(trail: Trail) -> list[str]:
    """The users of the events that are there, the oldest first."""
    await trail.move()
    rows = await trail.store.reads.find_documents(
        {"_id": {"$gte": "AuditEvent/", "$lt": "AuditEvent0"}}, sort={"at": 1}
    )
    return [json.loads(row["body"])["agent"][0]["who"]["identifier"]["value"] for row in rows]


def year_ago(trail: Trail) -> datetime:
    return trail.now() - timedelta(days=365)


async def test_what_is_older_goes_and_the_rest_is_proven(trail: Trail, clock: Clock) -> None:
    """Old events and their links are gone, the trail tells of it, verifies, and goes on."""
    assert await retention.remove(trail, year_ago(trail)) == 3
    assert await users(trail) == ["u0", "u0", "retention"]
    assert await faults(trail) == []
    assert (await trail.journal.walk())[0].number == 7
    await trail.note("login", {"user": "later"})
    assert await faults(trail) == []
    assert await retention.remove(trail, year_ago(trail)) == 0
    clock.pass_by(days=400)
    assert await retention.remove(trail, year_ago(trail)) == 4
    assert await users(trail) == ["retention"]
    assert await faults(trail) == []


async def test_a_removal_that_was_cut_off_is_carried_on(trail: Trail, monkeypatch: pytest.MonkeyPatch) -> None:
    """The anchor is there and the links too, as after a kill: whoever comes next finishes."""

    async def killed(_: Trail) -> None:
        """Nothing more happens."""

    with monkeypatch.context() as patched:
        patched.setattr(retention, "finish", killed)
        assert await retention.remove(trail, year_ago(trail)) == 3
    assert len(await users(trail)) == 6
    assert await faults(trail) == []
    assert await users(trail) == ["u0", "u0", "retention"]


async def test_tampering_with_the_anchor_is_found(trail: Trail) -> None:
    """An anchor moved on to hide more, forged, unmarked or taken out is a fault, and removes nothing."""
    await retention.remove(trail, year_ago(trail))
    links = database(trail)["audit"]
    anchor = await links.find_one({"cut": True})
    last = [link for link in await trail.journal.walk() if link.number < anchor["_id"]][-1]
    await links.update_one({"_id": anchor["_id"]}, {"$set": {"text": chain.removed(last)}})
    assert f"link {anchor['_id']} was changed" in await faults(trail)
    assert await users(trail) == ["u0", "u0", "retention"]
    await links.replace_one({"_id": anchor["_id"]}, anchor)
    assert await faults(trail) == []
    await links.update_one({"_id": anchor["_id"]}, {"$unset": {"cut": True}})
    assert "links 1 to 6 are missing" in await faults(trail)
    await links.delete_one({"_id": anchor["_id"]})
    assert len(await faults(trail)) >= 2
    forged = chain.linked(b"guess", last, chain.removed(last))
    row = {"_id": anchor["_id"], "before": forged.before, "text": forged.text, "hash": forged.hash, "cut": True}
    await links.insert_one(row)
    assert f"link {anchor['_id']} was changed" in await faults(trail)
    assert await users(trail) == ["u0", "u0", "retention"]


async def test_the_beginning_cut_off_without_an_anchor_is_found(trail: Trail) -> None:
    """Who deletes old links and events by hand is found out."""
    await database(trail)["audit"].delete_many({"_id": {"$lte": 2}})
    assert "links 1 to 2 are missing" in await faults(trail)


async def test_evidence_of_tampering_is_not_removed(trail: Trail) -> None:
    """Where the old part is not whole, removal is refused and says why."""
    await database(trail)["resources"].delete_one({"_id": {"$gte": "AuditEvent/", "$lt": "AuditEvent0"}})
    with pytest.raises(FhirError, match=r"not whole: AuditEvent/.* was removed"):
        await retention.remove(trail, year_ago(trail))
    assert len(await faults(trail)) == 1


async def test_export_before_removal(trail: Trail, tmp_path: Path) -> None:
    """What is exported is provable by itself and gone from the database; a changed export is found out."""
    folder = tmp_path / "old"
    assert await exported(trail, folder, 365, remove=True) == 3
    assert len((folder / "AuditEvent.ndjson").read_bytes().splitlines()) == 3
    assert (folder / "AuditEvent.ndjson").stat().st_mode & 0o77 == 0
    told, last = archive_faults(folder, await trail.keys())
    assert (told, last.number if last else 0) == ([], 6)
    anchor = await trail.journal.anchor()
    assert anchor is not None
    assert anchor.cut is not None
    assert last is not None
    assert anchor.cut.hash == last.hash
    assert await faults(trail) == []
    assert "u380" not in await users(trail)
    with pytest.raises(FhirError, match="export in"):
        await exported(trail, folder, 365, remove=True)
    path = folder / "AuditEvent.ndjson"
    path.write_bytes(path.read_bytes().replace(b"u390", b"u391"))
    assert [fault.partition(" ")[2] for fault in archive_faults(folder, await trail.keys())[0]] == ["was changed"]


async def test_an_export_alone_leaves_all_in_place(trail: Trail, clock: Clock, tmp_path: Path) -> None:
    """Without --remove nothing goes, and the export is in the trail."""
    clock.pass_by(seconds=1)
    assert await exported(trail, tmp_path / "all", 0, remove=False) == 5
    assert len(await users(trail)) == 6
    assert await faults(trail) == []


async def test_kept_for_ever_unless_configured(trail: Trail) -> None:
    """No days, no removal: the task ends at once."""
    await retention.run(trail, 0)
    assert len(await users(trail)) == 5
