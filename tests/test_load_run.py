"""Running a load: retries, second chances, the journal, and what the report says."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fhir_server.loading import run
from fhir_server.loading.answers import DONE_BEFORE, Answer, Message
from fhir_server.loading.files import find
from fhir_server.loading.http import Http
from fhir_server.loading.journal import Beside, Kept, folder_for
from fhir_server.loading.report import progress, summarize
from fhir_server.loading.run import Load, Report
from fhir_server.store import Store, Transaction
from profiles.outcome import FhirError

pytestmark = pytest.mark.anyio


class Recorder:
    """A server that stores nothing: it answers by rule and remembers what it was asked."""

    def __init__(self, rule: Callable[[Message, int], Answer | None] = lambda message, times: None) -> None:
        self.rule = rule
        self.asked: list[Message] = []
        self.times = Counter[tuple[str, bytes]]()

    async def send(self, message: Message) -> Answer:
        """The rule's answer, or that all went well."""
        self.asked.append(message)
        self.times[message.url, message.body] += 1
        return self.rule(message, self.times[message.url, message.body]) or well(message)


def well(message: Message) -> Answer:
    """Success; for a Bundle one entry each."""
    if message.url:
        return Answer(201, b"")
    count = len(json.loads(message.body)["entry"])
    return answer(200, {"resourceType": "Bundle", "entry": [{"response": {"status": "201 Created"}}] * count})


def answer(status: int, resource: dict[str, Any]) -> Answer:
    """An answer with a body."""
    return Answer(status, json.dumps(resource).encode())


def refusal(text: str, *expression: str) -> dict[str, Any]:
    """An OperationOutcome."""
    issue = {"severity": "error", "code": "invalid", "details": {"text": text}, "expression": list(expression)}
    return {"resourceType": "OperationOutcome", "issue": [issue]}


def write(path: Path, *ids: str) -> Path:
    """An NDJSON file of patients; an empty id is left out."""
    rows = [{"resourceType": "Patient"} | ({"id": name} if name else {}) for name in ids]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def beside(folder: Path, base_url: str = "http://server/fhir") -> Beside:
    """A journal beside the data; it asks the server nothing as long as nothing was stored."""
    return Beside(folder, base_url, Http(base_url, 1))


async def load(target: Recorder, *paths: Path, again: bool = False) -> Report:
    """Load the paths with a journal beside them."""
    files, faults = find(paths)
    loading = Load(target, beside(folder_for(paths)), 3, lambda report: None)
    loading.report.fault(*faults)
    return await loading.run(files, again=again)


async def test_what_was_loaded_is_not_sent_again(tmp_path: Path) -> None:
    """A second run sends nothing, unless it is told to, and a changed file sends what is new."""
    path = write(tmp_path / "a.ndjson", "1", "2", "")
    target = Recorder()
    report = await load(target, path)
    assert (report.loaded, report.known, report.failed, len(target.asked)) == (3, 0, 0, 2)
    report = await load(target, path)
    assert (report.loaded, report.known, len(target.asked)) == (0, 3, 2)
    report = await load(target, path, again=True)
    assert (report.loaded, len(target.asked)) == (3, 4)


async def test_creates_carry_a_key_and_updates_need_none(tmp_path: Path) -> None:
    """A repeated create is recognized by its key; an answer that says so counts as loaded."""
    done = answer(409, refusal(f"The request was {DONE_BEFORE} carried out."))
    target = Recorder(lambda message, times: done if message.key else None)
    report = await load(target, write(tmp_path / "a.ndjson", "1", ""))
    assert (report.loaded, report.failed) == (2, 0)
    assert sorted(bool(message.key) for message in target.asked) == [False, True]


async def test_a_busy_server_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """503 is repeated after a pause; when it stays, the lines are told as failed."""
    monkeypatch.setattr(run, "PAUSES", (0.001, 0.001, 0.001))
    path = write(tmp_path / "a.ndjson", "1", "2")
    target = Recorder(lambda message, times: Answer(503, b"") if times < 3 else None)
    assert (await load(target, path)).loaded == 2
    stubborn = Recorder(lambda message, times: Answer(503, b""))
    report = await load(stubborn, write(tmp_path / "b.ndjson", "3", "4"))
    assert (report.loaded, [fault.reason for fault in report.faults]) == (0, [run.BUSY] * 2)


async def test_a_server_that_asks_for_a_login_ends_the_load(tmp_path: Path) -> None:
    """There is no use in sending the rest: one sentence says what is missing."""
    target = Recorder(lambda message, times: Answer(401, b""))
    with pytest.raises(FhirError, match="--token"):
        await load(target, write(tmp_path / "a.ndjson", *map(str, range(1000))))
    assert len(target.asked) <= 3


async def test_a_long_file_moves_the_bar(tmp_path: Path) -> None:
    """The bytes read so far are told while a file is being read, not only at its end."""
    path = write(tmp_path / "a.ndjson", *map(str, range(30_000)))
    told: list[int] = []
    files, _ = find([path])
    report = await Load(Recorder(), None, 2, lambda report: told.append(report.bytes)).run(files)
    assert report.loaded == 30_000
    assert 0 < told[20] < path.stat().st_size == told[-1]


async def test_only_the_lines_that_failed_are_sent_again(tmp_path: Path) -> None:
    """Entries of a batch that were refused are told by line, and a second run sends these alone."""

    def rule(message: Message, times: int) -> Answer | None:
        rows = [entry["resource"]["id"] for entry in json.loads(message.body).get("entry", ())]
        bad = {"response": {"status": "422", "outcome": refusal("Wrong.", "Patient.name")}}
        good = {"response": {"status": "201 Created"}}
        if b'"2"' in message.body and not rows:
            return answer(422, refusal("Wrong.", "Patient.name"))
        return answer(200, {"entry": [bad if name == "2" else good for name in rows]}) if rows else None

    path = write(tmp_path / "a.ndjson", "1", "2", "3")
    report = await load(Recorder(rule), path)
    assert (report.loaded, report.failed) == (2, 1)
    assert [(fault.place, fault.reason) for fault in report.faults] == [(f"{path}, line 2", "Wrong. (Patient.name)")]
    target = Recorder(rule)
    report = await load(target, path)
    assert (report.loaded, report.known, report.failed) == (0, 2, 1)
    assert [message.url for message in target.asked] == ["Patient/2"]
    report = await load(Recorder(), path)
    assert (report.loaded, report.known, report.failed) == (1, 2, 0)


async def test_a_refused_group_is_sent_line_by_line(tmp_path: Path) -> None:
    """One line that spoils the whole batch, such as a duplicate key, does not keep the others out."""

    def rule(message: Message, times: int) -> Answer | None:
        return answer(400, refusal("Duplicate key.")) if b'"2"' in message.body else None

    report = await load(Recorder(rule), write(tmp_path / "a.ndjson", "1", "2", "3"))
    assert (report.loaded, [fault.number for fault in report.faults]) == (2, [2])


async def test_what_refers_to_later_files_gets_a_second_chance(tmp_path: Path) -> None:
    """A transaction that failed is tried once more when everything else is in."""
    entry = {"resource": {"resourceType": "Patient"}, "request": {"method": "POST", "url": "Patient"}}
    text = json.dumps({"resourceType": "Bundle", "type": "transaction", "entry": [entry, entry]})
    (tmp_path / "a.json").write_text(text)
    write(tmp_path / "b.ndjson", "1")
    refused = answer(412, refusal("No match.", "Bundle.entry[1].resource.subject"))
    target = Recorder(lambda message, times: refused if message.body == text.encode() and times == 1 else None)
    report = await load(target, tmp_path)
    assert (report.loaded, report.failed) == (3, 0)
    refusing = Recorder(lambda message, times: refused if message.body == text.encode() else None)
    report = await load(refusing, tmp_path, again=True)
    assert (report.loaded, [fault.place for fault in report.faults]) == (1, [f"{tmp_path / 'a.json'}, entry 2"])


async def test_a_journal_cut_off_by_a_crash_is_read(tmp_path: Path) -> None:
    """The last line, half written, counts as not there and is taken away."""
    journal = beside(tmp_path)
    await journal.record({"a": [], "b": [3, 1]})
    with journal.path.open("ab") as file:
        file.write(b'{"key":"c","fai')
    assert await journal.known() == {"a": [], "b": [1, 3]}
    again = beside(tmp_path)
    await again.record({"d": []})
    assert await again.known() == {"a": [], "b": [1, 3], "d": []}
    assert await beside(tmp_path, "http://other/fhir").known() == {}


def test_a_journal_is_not_written_into_read_only_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then it lies in the working folder."""
    (tmp_path / "data").mkdir(mode=0o555)
    monkeypatch.chdir(tmp_path)
    assert folder_for([tmp_path / "data"]) == tmp_path
    assert folder_for([write(tmp_path / "a.ndjson", "1")]) == tmp_path


async def test_the_journal_of_a_database_lives_in_it(store: Store) -> None:
    """Keys and failed parts are read back."""
    journal = Kept(store)
    await journal.record({"a": [], "b": {3, 1}})
    await journal.record({"b": {1}})
    assert await journal.known() == {"a": [], "b": [1]}


async def test_a_note_is_taken_once(store: Store) -> None:
    """Of two transactions with one name the second learns that there was a first."""

    async def work(tx: Transaction) -> bool:
        return await tx.note("once/1")

    assert await store.transaction(work)
    assert not await store.transaction(work)


def test_the_summary_says_what_failed_and_why(tmp_path: Path) -> None:
    """Numbers, places and reasons stand in the text, and brackets of a reason are no markup."""
    out = io.StringIO()
    console = Console(file=out, width=200)
    files, faults = find([tmp_path, tmp_path / "gone"])
    report = Report(loaded=3, known=2, passed=["package.json"])
    report.fault(*faults)
    report.fault(run.Fault("a.json", "entry", 4, "Wrong. (Bundle.entry[3].id)"))
    with progress(console, files) as tell:
        tell(report)
    summarize(console, report)
    text = out.getvalue()
    assert "Loaded 3 resources" in text
    assert "2 resources were loaded before" in text
    assert "package.json" in text
    assert "a.json, entry 4: Wrong. (Bundle.entry[3].id)" in text
    assert "2 failed." in text
