"""`fhir-server install`, `packages` and `validate`, as they are typed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from typer.testing import CliRunner

from fhir_server.cli import app
from profiles.json import encode
from tests.packing import URL, Json, codes, guide, package, profile, value_set
from tests.shell import patient
from tests.test_serve import free_port, served

NAMED = f"{URL}/StructureDefinition/named"


@pytest.fixture
def where(mongo_url: str, database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The options that name the database of the test."""
    monkeypatch.setenv("FHIR_DATABASE", database)
    monkeypatch.setenv("FHIR_DATA", str(tmp_path / "data"))
    return ["--mongo", mongo_url]


@pytest.fixture(autouse=True)
def no_logs() -> Iterator[None]:
    """Commands configure the logs for their own process."""
    yield
    structlog.reset_defaults()


def run(*words: Any) -> tuple[int, list[str], list[str]]:
    """Exit code, what was printed, and what was complained of."""
    done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    return done.exit_code, done.stdout.splitlines(), done.stderr.splitlines()


def test_dependencies_beside_the_file_come_along(tmp_path: Path, where: list[str]) -> None:
    """Installed before what needs them; what is missing is told; list and remove."""
    (tmp_path / "codes.tgz").write_bytes(package(codes(), value_set(), name="example.codes", version="2.1.0"))
    (tmp_path / "other.tgz").write_bytes(package(name="example.other"))
    (tmp_path / "notes.tgz").write_text("no package")
    wants = {"example.codes": "2.1.x", "example.else": "3.0.0"}
    (tmp_path / "guide.tgz").write_bytes(package(profile(), dependencies=wants))
    code, said, complained = run("install", tmp_path / "guide.tgz", *where)
    assert (code, said) == (
        0,
        [
            "example.codes#2.1.0: installed; 2 resources written, 0 unchanged",
            "example.guide#1.0.0: installed; 1 resources written, 0 unchanged",
        ],
    )
    assert [line.strip() for line in complained if line.strip()] == [
        "missing: example.else#3.0.0; what is bound to it is not checked"
    ]
    assert run("install", tmp_path / "guide.tgz", *where)[1][1] == (
        "example.guide#1.0.0: unchanged; 0 resources written, 1 unchanged"
    )
    assert run("packages", "list", *where)[1] == [
        "example.codes#2.1.0: installed; 2 resources",
        "example.guide#1.0.0: installed; 1 resources",
        "  missing: example.else#3.0.0",
    ]
    code, said, complained = run("packages", "remove", "example.codes", *where)
    assert (code, complained) == (2, ["example.codes#2.1.0 is needed by example.guide#1.0.0; remove that first."])
    assert run("packages", "remove", "example.guide#1.0.0", *where)[:2] == (
        0,
        ["example.guide#1.0.0: removed; 1 resources deleted"],
    )


@pytest.mark.parametrize(
    ("name", "raw", "text"),
    [
        ("broken.tgz", b"no package", "broken.tgz: The package is not gzipped"),
        ("missing.tgz", None, "missing.tgz cannot be read: No such file or directory"),
        ("later.tgz", package(fhirVersions=["5.0.0"]), "example.guide#1.0.0 is for FHIR 5.0.0; this server has R4."),
    ],
)
def test_a_broken_file_is_one_sentence(
    tmp_path: Path, where: list[str], name: str, raw: bytes | None, text: str
) -> None:
    """Exit code 2, and nothing of the good one beside it."""
    (tmp_path / "good.tgz").write_bytes(guide(name="example.good"))
    if raw is not None:
        (tmp_path / name).write_bytes(raw)
    code, _, complained = run("install", tmp_path / "good.tgz", tmp_path / name, *where)
    assert (code, [line for line in complained if text in line] != []) == (2, True), complained
    assert run("packages", "list", *where)[1] == []


def test_through_a_running_server(tmp_path: Path) -> None:
    """--base-url: installed, listed and removed there."""
    (tmp_path / "guide.tgz").write_bytes(guide())
    port = free_port()
    url = ["--base-url", f"http://127.0.0.1:{port}/fhir"]
    with served(tmp_path / "data", port):
        assert run("install", tmp_path / "guide.tgz", "--examples", *url)[:2] == (
            0,
            ["example.guide#1.0.0: installed; 5 resources written, 0 unchanged"],
        )
        assert run("packages", "list", *url)[1] == ["example.guide#1.0.0: installed; 5 resources, with examples"]
        assert run("packages", "remove", "example.else", *url)[::2] == (
            2,
            ["The package example.else is not installed."],
        )
        assert run("packages", "remove", "example.guide", *url)[:2] == (
            0,
            ["example.guide#1.0.0: removed; 5 resources deleted"],
        )


def checked(*words: Any) -> tuple[int, list[str], str]:
    code, said, complained = run("validate", *words)
    return code, said, complained[-1]


def test_files_are_checked_with_their_places(tmp_path: Path) -> None:
    """JSON, XML, NDJSON and Bundles in a folder; line and column; exit code 1 for one error."""
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.json").write_text('{"resourceType": "Patient",\n  "birthDate": "yesterday"}')
    (tmp_path / "b.ndjson").write_bytes(
        encode(patient()) + b"\n\n" + encode({"resourceType": "Patient", "x": 1}) + b"\n"
    )
    (tmp_path / "c.xml").write_text('<Patient xmlns="http://hl7.org/fhir">\n <gender value="mail"/></Patient>')
    row: Json = {"fullUrl": "urn:uuid:0a3a1d0e-8d60-4f6c-a7a0-6f8a5dd1ba12", "resource": {"resourceType": "Patient"}}
    (tmp_path / "d.json").write_bytes(encode({"resourceType": "Bundle", "type": "collection", "entry": [row]}))
    (tmp_path / "e.json").write_text("{oops")
    (tmp_path / "notes.txt").write_text("nothing of ours")
    code, said, summary = checked(tmp_path)
    assert (code, summary) == (1, "6 resources checked, 4 with errors")
    starts = [line.removeprefix(f"{tmp_path}/") for line in said]
    assert starts == [
        "b.ndjson:3:31: error: Patient.x: there is no such property here",
        "c.xml:2:2: error: Patient.gender: 'mail' is not one of female, male, other, unknown"
        " (http://hl7.org/fhir/ValueSet/administrative-gender)",
        "deep/a.json:2:16: error: Patient.birthDate: 'yesterday' is no date: YYYY, YYYY-MM or YYYY-MM-DD",
        "e.json:1:2: error: This is not JSON that FHIR allows: object keys must be strings (line 1, column 2)",
    ]


def test_what_is_no_resource_is_passed_over_in_a_folder(tmp_path: Path) -> None:
    """As `load` does: an object without resourceType, as package.json is; a file named itself or a line is an error."""
    (tmp_path / "package.json").write_text('{"name": "example.guide", "version": "1.0.0"}')
    (tmp_path / "p.json").write_bytes(encode(patient()))
    over = "; passed over, as they are no resources: 1"
    assert checked(tmp_path) == (0, [], f"1 resources checked, 0 with errors{over}")
    (tmp_path / "list.json").write_text("[1, 2]")
    (tmp_path / "rows.ndjson").write_bytes(encode({"resourceType": "Patient"}) + b"\n{}\n")
    code, said, summary = checked(tmp_path)
    assert (code, summary) == (1, f"4 resources checked, 2 with errors{over}")
    assert [line.removeprefix(f"{tmp_path}/")[:21] for line in said] == [
        "list.json:1:1: error:",
        "rows.ndjson:2:1: erro",
    ]
    for named in ([tmp_path / "package.json"], [tmp_path, tmp_path / "package.json"]):
        assert checked(*named)[0] == 1
    assert checked(tmp_path / "package.json")[2] == "1 resources checked, 1 with errors"


def test_files_are_checked_against_a_package(tmp_path: Path) -> None:
    """--package and --profile, without a database; an unknown profile is an error."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "p.json").write_bytes(encode({"resourceType": "Patient"}))
    (tmp_path / "guide.tgz").write_bytes(guide())
    assert checked(tmp_path / "in")[0] == 0
    given = ["--package", tmp_path / "guide.tgz", "--profile"]
    code, said, _ = checked(tmp_path / "in", *given, NAMED)
    assert (code, said) == (
        1,
        [f"{tmp_path}/in/p.json:1:1: error: Patient.name: name: at least 1 required, 0 found ({NAMED})"],
    )
    assert checked(tmp_path / "in", *given, "http://example.org/none")[0] == 1
    (tmp_path / "in" / "p.json").write_bytes(encode(patient()))
    assert checked(tmp_path / "in", *given, NAMED)[0] == 0


def test_files_are_checked_against_what_is_installed(tmp_path: Path, where: list[str]) -> None:
    """With --mongo or --data: the database's definitions."""
    (tmp_path / "guide.tgz").write_bytes(guide())
    (tmp_path / "p.json").write_bytes(encode({"resourceType": "Patient", "meta": {"profile": [NAMED]}}))
    assert run("install", tmp_path / "guide.tgz", *where)[0] == 0
    assert checked(tmp_path / "p.json", *where)[0] == 1
    assert run("validate", tmp_path / "none.json")[0] == 2


@pytest.mark.parametrize(
    "words", [("load", "x.json"), ("seed",), ("packages", "list"), ("reindex",), ("terminology", "list")]
)
def test_what_is_about_the_default_tenant_says_so(
    words: tuple[str, ...], where: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ward's data never goes into another hospital because a command does not know the setting."""
    monkeypatch.setenv("FHIR_TENANT", "ward")
    code, _, errors = run(*words, *where)
    assert code == 2
    assert "about the default tenant" in errors[0]
