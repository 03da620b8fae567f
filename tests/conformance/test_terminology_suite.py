"""The HL7 terminology ecosystem tests, strict but for `issue.location`, against the interactions on a real database."""

from __future__ import annotations

import copy
import importlib.util
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fhir_server.context import Context
from tests.shell import ask, content

SUITES = Path(os.environ.get("FHIR_SUITES", Path(__file__).parents[3] / "shared" / "suites")) / "terminology"

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not SUITES.is_dir(), reason="FHIR_SUITES names no folder with the terminology suite"),
]


def runner() -> Any:
    """The suite's own comparison."""
    spec = importlib.util.spec_from_file_location("terminology_suite", SUITES / "run.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.LAX = True  # type: ignore[attr-defined]
    return module


def read(name: str) -> Any:
    return json.loads((SUITES / "tests" / name).read_text(encoding="utf-8-sig"))


def cases() -> Iterator[Any]:
    if SUITES.is_dir():
        for suite in read("test-cases.json")["suites"]:
            for case in suite["tests"]:
                if suite.get("mode", "general") == "general" and case.get("mode", "general") == "general":
                    yield pytest.param(suite, case, id=case["name"])


@pytest.fixture(scope="module")
def suite_runner() -> Any:
    return runner()


@pytest.mark.parametrize(("suite", "case"), list(cases()))
async def test_the_ecosystem_case(suite: Any, case: Any, context: Context, suite_runner: Any) -> None:
    """The whole answer is what the suite expects."""
    expected, kind = read(case["response"]), case["operation"]
    headers = {"accept_language": case["Accept-Language"]} if "Accept-Language" in case else {}
    if kind in ("metadata", "term-caps"):
        answer = await ask(context, "GET", "metadata" + ("?mode=terminology" if kind == "term-caps" else ""))
    else:
        answer = await ask(context, "POST", suite_runner.OP[kind], body(suite, case), **headers)
    found = json.loads(answer.body)
    pattern = kind in ("metadata", "term-caps")
    found = found if pattern else suite_runner.normalise(copy.deepcopy(found))
    why = suite_runner.Cmp({"general"}, None).obj("", expected, found, pattern)
    assert why is None, f"{why}\n{json.dumps(content(answer), indent=1, default=str)[:4000]}"
    assert str(answer.status)[0] == case.get("http-code", "2xx")[0]


def body(suite: Any, case: Any) -> Any:
    request = read(case["request"])
    profile = read(case.get("profile", "parameters-default.json"))
    along = [{"name": "tx-resource", "resource": read(name)} for name in suite.get("setup", ())]
    request["parameter"] = [*request.get("parameter", ()), *along, *profile.get("parameter", ())]
    return request
