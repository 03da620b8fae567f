"""Reading what the server answered to a unit: done, to be repeated, to be sent in parts, or failed and why."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import msgspec

from fhir_server.loading.units import Fault, Line, Unit, batch

REPEAT = frozenset({429, 502, 503, 504})  # the server or what stands before it is busy
DONE_BEFORE = "already"  # the word in the answer to a repeated Idempotency-Key
TEXTS = 3  # issues of one outcome that a report shows
ENTRY = re.compile(r"Bundle\.entry\[(\d+)\]")


@dataclass(frozen=True, slots=True)
class Message:
    """One request: the path below the base URL, the JSON body, and for what is not safe to repeat a key."""

    method: str
    url: str
    body: bytes
    key: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """Status and body of a response; `pause` in seconds when the server says when to come again."""

    status: int
    body: bytes
    pause: float = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an answer means for its unit: the faults, the lines to send each alone, whether to repeat all of it."""

    faults: tuple[Fault, ...] = ()
    apart: tuple[Line, ...] = ()
    repeat: bool = False


def message(unit: Unit) -> Message:
    """The request that loads the unit; creates carry its key, so that a repeated one creates nothing twice."""
    if unit.body:
        return Message("POST", "", unit.body, unit.key)
    first = unit.lines[0]
    if len(unit.lines) > 1:
        return Message("POST", "", batch(unit.lines))
    if first.method == "PUT":
        return Message("PUT", first.url, first.body)
    return Message("POST", "", batch(unit.lines, "transaction"), unit.key)


def judge(unit: Unit, answer: Answer) -> Verdict:
    """What the answer means for the unit."""
    if answer.status < 300:
        return _entries(unit, answer)
    if answer.status in REPEAT:
        return Verdict(repeat=True)
    if answer.status == 409 and DONE_BEFORE in _reason(_parsed(answer.body)):
        return Verdict()
    if len(unit.lines) > 1:
        return Verdict(apart=unit.lines)
    return Verdict(faults=(_fault(unit, answer),))


def _fault(unit: Unit, answer: Answer) -> Fault:
    outcome = _parsed(answer.body)
    places = [place for issue in outcome.get("issue", ()) for place in issue.get("expression", ())]
    entry = next((int(found[1]) + 1 for place in places if (found := ENTRY.match(place))), 0)
    number = unit.lines[0].number if unit.lines else entry
    return Fault(unit.file, unit.label, number, _reason(outcome) or f"HTTP status {answer.status}")


def _entries(unit: Unit, answer: Answer) -> Verdict:
    """The verdict over a batch's entries; those that met a busy server are sent again."""
    entries = _parsed(answer.body).get("entry", ())
    faults, apart = [], []
    for position, entry in enumerate(entries):
        response = entry.get("response", {})
        status = int(str(response.get("status", "200"))[:3])
        if status in REPEAT and unit.lines:
            apart.append(unit.lines[position])
        elif status >= 400:
            number = unit.numbers[position]
            reason = _reason(response.get("outcome", {})) or f"HTTP status {status}"
            faults.append(Fault(unit.file, unit.label, number, reason))
    return Verdict(tuple(faults), tuple(apart))


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(body) if body else {}
    except msgspec.MsgspecError:
        return {}
    return value if isinstance(value, dict) else {}


def _reason(outcome: dict[str, Any]) -> str:
    """The first issues of an OperationOutcome in one line, each with its place."""
    issues = [issue for issue in outcome.get("issue", ()) if issue.get("severity") in ("fatal", "error")]
    texts = [_issue(issue) for issue in issues[:TEXTS]]
    return "; ".join(texts + ([f"and {len(issues) - TEXTS} more"] if len(issues) > TEXTS else []))


def _issue(issue: dict[str, Any]) -> str:
    text = issue.get("details", {}).get("text") or issue.get("diagnostics") or issue.get("code", "")
    places = ", ".join(issue.get("expression", ()))
    return f"{text} ({places})" if places and places not in text else str(text)
