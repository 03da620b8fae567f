"""Planning a load: what files hold, how it is grouped, and what is told about what cannot be read."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from fhir_server.loading.files import File, find, units
from fhir_server.loading.plan import GROUP_LINES, plan_document, plan_lines
from fhir_server.loading.units import Fault, Passed, Unit, batch, narrow


def line(number: int, **elements: Any) -> bytes:
    """A Patient as a line of NDJSON."""
    return json.dumps({"resourceType": "Patient", "id": str(number), **elements}).encode() + b"\n"


def bundle(kind: str, *entries: dict[str, Any]) -> bytes:
    """A Bundle."""
    return json.dumps({"resourceType": "Bundle", "type": kind, "entry": list(entries)}).encode()


def planned(text: bytes) -> list[Unit | Fault]:
    """The units of a document."""
    return list(plan_document("a.json", text))


@pytest.mark.parametrize(("kind", "atomic"), [("transaction", True), ("batch", False)])
def test_requests_are_posted_as_they_are(kind: str, atomic: bool) -> None:
    """A transaction or batch keeps its text to the byte."""
    text = bundle(kind, {"resource": {"resourceType": "Patient"}, "request": {"method": "POST", "url": "Patient"}})
    (unit,) = planned(text)
    assert isinstance(unit, Unit)
    assert (unit.body, unit.count, unit.atomic) == (text, 1, atomic)


@pytest.mark.parametrize("kind", ["collection", "searchset", "document", "message"])
def test_other_bundles_are_unpacked_by_id(kind: str) -> None:
    """Their resources are put by id, or posted where there is none; an outcome of the search is left out."""
    entries = (
        {"resource": {"resourceType": "Patient", "id": "1"}},
        {"resource": {"resourceType": "Observation"}},
        {"resource": {"resourceType": "OperationOutcome"}, "search": {"mode": "outcome"}},
    )
    units = planned(bundle(kind, *entries))
    assert [[(row.method, row.url, row.number) for row in unit.lines] for unit in units if isinstance(unit, Unit)] == [
        [("POST", "Observation", 2)],
        [("PUT", "Patient/1", 1)],
    ]


def test_entries_linked_by_urn_become_one_transaction() -> None:
    """References by urn:uuid are only rewritten inside a transaction."""
    entries = (
        {"fullUrl": "urn:uuid:1", "resource": {"resourceType": "Patient"}},
        {"resource": {"resourceType": "Basic", "id": "b", "subject": {"reference": "urn:uuid:1"}}},
    )
    (unit,) = planned(bundle("collection", *entries))
    assert isinstance(unit, Unit)
    assert unit.atomic
    assert [row["request"] for row in json.loads(unit.body)["entry"]] == [
        {"method": "POST", "url": "Patient"},
        {"method": "PUT", "url": "Basic/b"},
    ]


def test_lines_are_grouped_and_decimals_kept() -> None:
    """Lines with an id travel in groups, their text as it stands; a line without one travels alone."""
    lines = [line(n) for n in range(GROUP_LINES + 1)]
    odd = b'{"resourceType":"Observation","valueQuantity":{"value":1.00}}'
    units = list(plan_lines("a.ndjson", [*lines, b"\n", odd]))
    assert [unit.count for unit in units if isinstance(unit, Unit)] == [GROUP_LINES, 1, 1]
    alone = next(unit for unit in units if isinstance(unit, Unit) and unit.lines[0].method == "POST")
    assert alone.numbers == (GROUP_LINES + 3,)
    assert b'"value":1.00' in batch(alone.lines)


def test_an_id_that_comes_again_starts_the_next_group() -> None:
    """Two versions of one resource never race inside a batch."""
    units = list(plan_lines("a.ndjson", [line(1), line(2), line(1, active=True)]))
    assert [unit.numbers for unit in units if isinstance(unit, Unit)] == [(1, 2), (3,)]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b'{"resourceType":"Patient",', "JSON"),
        (b'{"resourceType":"Person1"}', "'Person1' is not one of FHIR R4's"),
        (b'{"a":1}', "no resourceType"),
        (b"[]", "Expected `object`"),
        (b'{"resourceType":"Bundle","type":"history"}', "type 'history' cannot be loaded"),
        (b'{"resourceType":"Patient","id":"\xff"}', "utf-8"),
    ],
)
def test_bad_lines_are_told_with_their_number(text: bytes, reason: str) -> None:
    """A line that is no resource is a fault of its own; the others are loaded."""
    pieces = list(plan_lines("a.ndjson", [line(1), text, line(2)]))
    (fault,) = [piece for piece in pieces if isinstance(piece, Fault)]
    assert fault.place == "a.ndjson, line 2"
    assert reason in fault.reason
    assert [piece.numbers for piece in pieces if isinstance(piece, Unit)] == [(1, 3)]


def test_keys_are_of_the_content() -> None:
    """The same text has the same key wherever it lies; the same line without an id twice is two resources."""
    (one,), (other,) = (list(plan_document(name, line(1))) for name in ("a.json", "b.json"))
    assert isinstance(one, Unit) and isinstance(other, Unit)
    assert one.key == other.key
    twice = list(plan_lines("a.ndjson", [b'{"resourceType":"Basic"}'] * 2))
    assert len({unit.key for unit in twice if isinstance(unit, Unit)}) == 2


def test_a_unit_narrowed_keeps_only_what_failed() -> None:
    """Lines and batch entries are sent again alone, a transaction as a whole, all under their old key."""
    (group,) = plan_lines("a.ndjson", [line(1), line(2), line(3)])
    assert isinstance(group, Unit)
    part = narrow(group, {2})
    assert (part.key, part.count, [row.number for row in part.lines]) == (group.key, 1, [2])
    rows = [{"request": {"method": "GET", "url": f"Patient/{n}"}} for n in range(3)]
    (sent,) = planned(bundle("batch", *rows))
    assert isinstance(sent, Unit)
    rest = narrow(sent, {1, 3})
    assert [row["request"]["url"] for row in json.loads(rest.body)["entry"]] == ["Patient/0", "Patient/2"]
    assert rest.numbers == (1, 3)
    assert narrow(sent, {0}) == sent
    (whole,) = planned(bundle("transaction", *rows))
    assert isinstance(whole, Unit)
    assert narrow(whole, {2}) == whole


def test_folders_are_walked_and_zipped_files_opened(tmp_path: Path) -> None:
    """JSON and NDJSON are found in any depth, zipped or not, whatever the case; hidden and other files are not."""
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "b.NDJSON.GZ").write_bytes(gzip.compress(line(1) + line(2)))
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf" + line(3))
    (tmp_path / "notes.txt").write_text("no resource")
    (tmp_path / ".fhir-load-1.jsonl").write_text("{}")
    (tmp_path / "package.json").write_text('{"name":"a package"}')
    files, faults = find([tmp_path, tmp_path / "a.json", tmp_path / "gone"])
    assert [file.path.name for file in files] == ["a.json", "b.NDJSON.GZ", "package.json"]
    assert [fault.reason for fault in faults] == ["No such file or directory"]
    pieces = [piece for file in files for piece in units(file)]
    assert [piece.numbers for piece in pieces if isinstance(piece, Unit)] == [(0,), (1, 2)]
    assert [Path(piece.file).name for piece in pieces if isinstance(piece, Passed)] == ["package.json"]


def test_a_file_named_by_the_caller_is_taken_whatever_its_name(tmp_path: Path) -> None:
    """And it is a failure when it holds no resource."""
    path = tmp_path / "export"
    path.write_bytes(b"{}")
    files, _ = find([path])
    assert [type(piece) for file in files for piece in units(file)] == [Fault]


def test_a_broken_file_is_told(tmp_path: Path) -> None:
    """What was zipped and cut off is loaded up to the cut, and told."""
    path = tmp_path / "a.ndjson.gz"
    path.write_bytes(gzip.compress(b"".join(line(n) for n in range(5000)))[:-2000])
    pieces = list(units(File(path, 1)))
    assert isinstance(pieces[-1], Fault)
    assert "cannot be read" in pieces[-1].reason
