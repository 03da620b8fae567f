"""HL7's validator cases for R4: the verdict of the Java reference validator, read from the folder FHIR_SUITES names."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from profiles.json import parse
from profiles.outcome import FhirError, Issue
from profiles.validate import Library, Options, Shelf, validate
from profiles.xml import parse_xml

SUITE = Path(os.environ.get("FHIR_SUITES", Path(__file__).parents[3] / "shared" / "suites")) / "validator"
SETS = ("base", "profile")
# The suite's runner leaves its files to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
Json = dict[str, Any]

# Cases with another verdict, each with the reason; the list only shrinks.
KNOWN = {
    "json-comments-1-yes": "comments in JSON, allowed there by a switch of the Java validator, are no JSON",
    "extension-version-restriction-range-ctxt-r4": "the definition of the extension is not among the files of the case",
    "aggregation-apart-good4": "expected by the rules of R5, where Encounter.class is optional",
    "ext-derived-circle": "a rule of the publisher HL7, and SNOMED CT, which is not at hand",
}
# The same for the verdict with the profile of the case applied.
KNOWN_PROFILED = {
    "aggregation-apart-good4": "expected by the rules of R5, where Encounter.class is optional",
    "additional-bindings-observation-2": "the value set of the additional binding needs a terminology server",
    "xhtml-ctrl-no-lang-bad": "an extension of the tools that controls languages of narratives",
    "xhtml-ctrl-twob-lang-good2": "an extension of the tools that controls languages of narratives",
}


@cache
def runner() -> ModuleType:
    """The suite's own runner: it selects the cases and reads what Java answered."""
    spec = importlib.util.spec_from_file_location("validator_suite", SUITE / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cases() -> Iterator[tuple[Json, Path, bool]]:
    """(case, file, is it wrong?) of the two sets, without those whose errors are all about terminology elsewhere."""
    for name in SETS:
        for case, _, path, errors, terminology in runner().cases(name):
            if not terminology:
                yield case, Path(path), bool(errors)


def profiled() -> Iterator[tuple[Json, Path, bool]]:
    """The cases that also have an outcome for their profile."""
    for case, path, _ in cases():
        outcome = runner().outcome(case["profile"]) if isinstance(case.get("profile"), dict) else None
        if outcome is not None:
            yield case, path, any(i["severity"] in ("error", "fatal") for i in outcome.get("issue", ()))


def read(path: Path) -> Json:
    raw = path.read_bytes()
    found: Json = parse_xml(raw) if path.suffix == ".xml" else parse(raw)
    return found


def supporting(case: Json) -> Iterator[Json]:
    """The definitions that come with a case."""
    own = case.get("profile") if isinstance(case.get("profile"), dict) else {}
    names = [*case.get("supporting", ()), *case.get("profiles", ()), *own.get("supporting", ())]
    for name in [*names, *([own["source"]] if own.get("source") else [])]:
        found = read(SUITE / "data" / name)
        yield from [e["resource"] for e in found["entry"]] if found["resourceType"] == "Bundle" else [found]


def issues(case: Json, path: Path, *, with_profile: bool) -> list[Issue]:
    try:
        resource = read(path)
    except FhirError as error:
        return list(error.issues)
    shelf = Shelf(supporting(case))
    asked = [read(SUITE / "data" / case["profile"]["source"])["url"]] if with_profile else []
    strict = bool(case.get("security-checks") or case.get("noHtmlInMarkdown"))
    options = Options(unknown_extensions="error", forbid_html=strict)
    return validate(resource, Library(find=shelf.find), profiles=asked, options=options)


def is_wrong(found: list[Issue]) -> bool:
    return any(i.severity in ("error", "fatal") for i in found)


here = pytest.mark.skipif(not SUITE.exists(), reason="the suites are not here (FHIR_SUITES)")


@here
def test_the_verdict_is_that_of_java() -> None:
    """Wrong where Java says wrong, right where Java says right: 143 of 147 cases, the others listed by name."""
    different = {c["name"] for c, p, wrong in cases() if is_wrong(issues(c, p, with_profile=False)) != wrong}
    assert different == set(KNOWN)


@here
def test_the_verdict_with_profiles_is_that_of_java() -> None:
    """The same with the profile of the case applied."""
    different = {c["name"] for c, p, wrong in profiled() if is_wrong(issues(c, p, with_profile=True)) != wrong}
    assert different == set(KNOWN_PROFILED)
