"""The commands `load` and `seed` as a user runs them: into the database, through a server, killed and run again."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.database import Database

from seed import generate

PATIENTS = 8


@pytest.fixture
def documents(mongo_url: str, database: str) -> Iterator[Database[dict[str, Any]]]:
    """The database as MongoDB shows it."""
    with MongoClient(mongo_url, serverSelectionTimeoutMS=5000) as client:
        yield client[database]


@pytest.fixture
def place(mongo_url: str, database: str, tmp_path: Path) -> dict[str, str]:
    """The environment of a command that works on the test's database."""
    settings = {"FHIR_MONGO": mongo_url, "FHIR_DATABASE": database, "FHIR_DATA": str(tmp_path / "data")}
    return {**os.environ, **settings, "COLUMNS": "200"}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of transactions that create everything anew, one a patient."""
    folder = tmp_path_factory.mktemp("bundles")
    groups = generate(PATIENTS)
    for number, group in enumerate(islice(groups, PATIENTS + 1)):
        (folder / f"{number:03}.json").write_text(json.dumps(transaction(group), default=float))
    return folder


def transaction(group: list[dict[str, Any]]) -> dict[str, Any]:
    """A transaction of creates: posted twice, it makes everything twice."""
    rows = [({name: value for name, value in row.items() if name != "id"}, row["resourceType"]) for row in group]
    entries = [{"resource": content, "request": {"method": "POST", "url": type}} for content, type in rows]
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


def command(*words: str) -> list[str]:
    """The command line."""
    return [sys.executable, "-c", "from fhir_server.cli import main; main()", *words]


def run(place: dict[str, str], *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(command(*map(str, words)), env=place, capture_output=True, text=True, timeout=120)


@contextmanager
def served(place: dict[str, str]) -> Iterator[str]:
    """A running server; its base URL."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(command("serve", "--port", str(port)), env=place, stdout=subprocess.DEVNULL)
    try:
        wait_for(lambda: _is_ready(port))
        yield f"http://127.0.0.1:{port}/fhir"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def wait_for(condition: Any, seconds: float = 30) -> None:
    """Wait until the condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def size(folder: Path) -> int:
    """How many resources the bundles of the folder hold."""
    return sum(len(json.loads(path.read_text())["entry"]) for path in folder.glob("*.json"))


def test_a_bad_file_does_not_stop_the_rest(place: dict[str, str], tmp_path: Path, documents: Any) -> None:
    """Each failure is told with file, line and reason, the exit code is 1, and a second run takes what was mended."""
    lines = [
        '{"resourceType":"Patient","id":"1","birthDate":"1980-02-01"}',
        '{"resourceType":"Patient","id":"2","birthDate":"yesterday"}',
        '{"resourceType":"Patient","id":"3","id":"3"}',
        '{"resourceType":"Patient",',
        '{"resourceType":"Observation","status":"final","code":{"text":"x"},"valueQuantity":{"value":1.00}}',
    ]
    (tmp_path / "a.ndjson").write_text("\n".join(lines))
    (tmp_path / "b.json").write_text('{"resourceType":"Patient","id":"4"}')
    (tmp_path / "broken.json.gz").write_bytes(b"\x1f\x8b broken")
    done = run(place, "load", tmp_path)
    assert done.returncode == 1, done.stderr
    assert "Loaded 3 resources" in done.stderr
    for number, reason in ((2, "Patient.birthDate"), (3, "id"), (4, "not valid JSON")):
        (line,) = [text for text in done.stderr.splitlines() if f"a.ndjson, line {number}:" in text]
        assert reason in line
    assert "broken.json.gz: cannot be read" in done.stderr
    assert documents.resources.count_documents({}) == 3
    lines[1] = lines[1].replace("yesterday", "1981")
    (tmp_path / "a.ndjson").write_text("\n".join(lines[:2]))
    (tmp_path / "broken.json.gz").unlink()
    done = run(place, "load", tmp_path)
    assert done.returncode == 0, done.stderr
    assert documents.resources.count_documents({}) == 4
    body = next(row["body"] for row in documents.resources.find() if row["_id"].startswith("Observation/"))
    assert b'"value":1.00' in body


def test_a_repeated_load_without_its_journal_creates_nothing_twice(
    place: dict[str, str], bundles: Path, documents: Any
) -> None:
    """What was carried out and not written down is recognized by its key."""
    assert run(place, "load", bundles).returncode == 0
    count = documents.resources.count_documents({})
    assert count == size(bundles)
    documents.state.delete_many({"_id": {"$regex": "^load/"}})
    done = run(place, "load", bundles, "--workers", "2")
    assert done.returncode == 0, done.stderr
    assert documents.resources.count_documents({}) == count
    done = run(place, "load", bundles)
    assert f"{count:,} resources were loaded before" in done.stderr


@pytest.mark.parametrize("way", ["database", "server"])
def test_a_killed_load_goes_on_without_duplicates(
    place: dict[str, str], bundles: Path, documents: Any, way: str, tmp_path: Path
) -> None:
    """kill -9 in the middle, some times; then a last run finishes."""
    if way == "database":
        _kill_and_finish(place, documents.state, ["load", str(bundles)])
    else:
        with served(place) as base_url:
            _kill_and_finish(place, documents.state, ["load", str(bundles), "--base-url", base_url])
    assert documents.resources.count_documents({}) == size(bundles)
    assert documents.history.count_documents({}) == 0


def _kill_and_finish(place: dict[str, str], state: Collection[dict[str, Any]], words: list[str]) -> None:
    for _ in range(2):
        _kill(subprocess.Popen(command(*words), env=place, stderr=subprocess.DEVNULL), state)
    done = run(place, *words)
    assert done.returncode == 0, done.stderr


def _kill(process: subprocess.Popen[bytes], state: Collection[dict[str, Any]]) -> None:
    """Kill the load as soon as it has written something down, or has ended."""
    before = state.count_documents({})
    wait_for(lambda: state.count_documents({}) > before or process.poll() is not None)
    process.kill()
    process.wait()


def test_a_server_with_another_database_gets_everything(place: dict[str, str], tmp_path: Path, documents: Any) -> None:
    """The journal beside the data does not outlive the data on the server."""
    path = tmp_path / "a.json"
    path.write_text('{"resourceType":"Patient","id":"1"}')
    with served(place) as base_url:
        for loaded in (1, 0):
            done = run(place, "load", path, "--base-url", base_url)
            assert f"Loaded {loaded} resources" in done.stderr
        documents.resources.delete_many({})
        done = run(place, "load", path, "--base-url", base_url)
    assert "Loaded 1 resources" in done.stderr


def test_beside_a_running_server(place: dict[str, str], tmp_path: Path) -> None:
    """On its embedded database; what is loaded is found, by a SearchParameter that was loaded too."""
    embedded = {name: value for name, value in place.items() if name != "FHIR_MONGO"}
    parameter = {"resourceType": "SearchParameter", "id": "shoe", "url": "http://a.example/shoe", "name": "shoe"}
    parameter |= {"status": "active", "description": "Shoes", "code": "shoe", "base": ["Patient"], "type": "string"}
    parameter |= {"expression": "Patient.extension('http://a.example/shoe').value"}
    patient = {"resourceType": "Patient", "id": "1"}
    patient |= {"extension": [{"url": "http://a.example/shoe", "valueString": "boot"}]}
    (tmp_path / "p.json").write_text(json.dumps(parameter))
    (tmp_path / "q.json").write_text(json.dumps(patient))
    with served(embedded) as base_url:
        for name in ("p.json", "q.json"):
            done = run(embedded, "load", tmp_path / name)
            assert done.returncode == 0, done.stderr
        with urllib.request.urlopen(f"{base_url}/Patient?shoe=boot", timeout=10) as answer:
            assert json.load(answer)["total"] == 1
        assert run(embedded, "packages", "list").returncode == 0


def test_the_hospital_is_seeded_once(place: dict[str, str], documents: Any) -> None:
    """A second run changes nothing; another seed adds another hospital; a server takes it as well.

    Who can open the database needs no token, whatever the server asks of its callers.
    """
    done = run(place | {"FHIR_AUTH": "smart"}, "seed", "--patients", "2")
    assert done.returncode == 0, done.stderr
    count = documents.resources.count_documents({})
    assert count == sum(len(group) for group in generate(2))
    assert run(place, "seed", "--patients", "2").returncode == 0
    assert documents.resources.count_documents({"v": {"$gt": 1}}) == 0
    with served(place) as base_url:
        done = run(place, "seed", "--patients", "1", "--random-seed", "2", "--base-url", base_url)
    assert done.returncode == 0, done.stderr
    assert documents.resources.count_documents({"_id": "Patient/s2-p00001"}) == 1


def test_what_cannot_begin_is_said_in_a_sentence(place: dict[str, str], tmp_path: Path) -> None:
    """No server, nothing to load."""
    path = tmp_path / "a.json"
    path.write_text('{"resourceType":"Patient","id":"1"}')
    done = run(place, "load", path, "--base-url", "ftp://nowhere")
    assert (done.returncode, done.stderr.strip()) == (
        2,
        "'ftp://nowhere' is no base URL such as http://127.0.0.1:8000/fhir",
    )
    with closing(socket.socket()) as sock:
        sock.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{sock.getsockname()[1]}/fhir"
    started = time.monotonic()
    done = run(place, "load", path, "--base-url", nobody)
    assert (done.returncode, done.stderr.strip()) == (2, f"{nobody} does not answer: Connection refused")
    assert time.monotonic() - started < 60, "it is not waited for as a busy one is"
    with served(place) as base_url:
        root = base_url.removesuffix("/fhir")
        done = run(place, "load", path, "--base-url", root)
        assert (done.returncode, done.stderr.strip()) == (2, f"There is no FHIR server at {root}. Is it {root}/fhir?")
    done = run(place, "load", tmp_path / "gone")
    assert done.returncode == 1
    assert "gone: No such file or directory" in done.stderr
