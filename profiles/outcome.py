"""OperationOutcome: the one error of this project and its one converter (http://hl7.org/fhir/R4/operationoutcome.html)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

_MESSAGE_ID = "http://hl7.org/fhir/StructureDefinition/operationoutcome-message-id"

# Issue code -> HTTP status, for every code of http://hl7.org/fhir/R4/valueset-issue-type.html an answer may carry.
STATUS: dict[str, int] = {
    "invalid": 400,
    "structure": 400,
    "required": 422,
    "value": 422,
    "invariant": 422,
    "security": 403,
    "login": 401,
    "unknown": 401,
    "expired": 401,
    "forbidden": 403,
    "suppressed": 403,
    "processing": 422,
    "not-supported": 400,
    "duplicate": 409,
    "multiple-matches": 412,
    "not-found": 404,
    "deleted": 410,
    "too-long": 413,
    "code-invalid": 422,
    "extension": 422,
    "too-costly": 400,
    "business-rule": 422,
    "conflict": 409,
    "transient": 503,
    "lock-error": 503,
    "no-store": 503,
    "exception": 500,
    "timeout": 503,
    "incomplete": 503,
    "throttled": 429,
}


@dataclass(frozen=True, slots=True)
class Issue:
    """One OperationOutcome.issue; `expression` is a FHIRPath to the place at fault: `Patient.contact[1].name`."""

    severity: str
    code: str
    text: str
    expression: tuple[str, ...] = ()
    line: int | None = None
    column: int | None = None
    # A terminology answer names its kind of issue and its message (https://hl7.org/fhir/tools, tx-issue-type).
    coding: tuple[str, str] | None = None
    message_id: str | None = None
    # A remark beside the fault: no details, which programs read, only diagnostics.
    aside: bool = False

    @property
    def is_error(self) -> bool:
        """Whether it is a fault: anything else is a warning or a remark."""
        return self.severity in ("error", "fatal")


class FhirError(Exception):
    """A fault that a caller is told about: raised anywhere, turned into status and OperationOutcome in one place.

    `status` overrides the table for the few answers HTTP names itself (304, 406, 412, 415, 501 ...);
    `headers` travel with the answer (Retry-After, WWW-Authenticate).
    """

    def __init__(
        self,
        code: str,
        text: str,
        expression: str | Sequence[str] = (),
        *,
        status: int | None = None,
        headers: dict[str, str] | None = None,
        issues: Sequence[Issue] | None = None,
    ) -> None:
        super().__init__(text)
        places = (expression,) if isinstance(expression, str) and expression else tuple(expression)
        self.issues: tuple[Issue, ...] = tuple(issues) if issues else (Issue("error", code, text, places),)
        self.code = code
        self.text = text
        self.status = status if status is not None else STATUS[code]
        self.headers = headers or {}

    @classmethod
    def of(cls, issues: Sequence[Issue], *, status: int | None = None) -> FhirError:
        """One error that carries many issues; the first of the errors decides the status."""
        first = next((i for i in issues if i.is_error), issues[0])
        return cls(first.code, first.text, first.expression, status=status, issues=issues)


def operation_outcome(issues: Iterable[Issue]) -> dict[str, Any]:
    """An OperationOutcome resource for the issues, in their order."""
    return {"resourceType": "OperationOutcome", "issue": [_issue(i) for i in issues]}


def _issue(issue: Issue) -> dict[str, Any]:
    row: dict[str, Any] = {
        "severity": issue.severity,
        "code": issue.code,
        "details": {"text": issue.text},
        "diagnostics": issue.text,
    }
    if issue.aside:
        del row["details"]
    if issue.coding:
        row["details"]["coding"] = [{"system": issue.coding[0], "code": issue.coding[1]}]
    if issue.message_id:
        row["extension"] = [{"url": _MESSAGE_ID, "valueString": issue.message_id}]
    if issue.expression:
        row["expression"] = list(issue.expression)
    if issue.line is not None:
        row["location"] = [f"line {issue.line}, column {issue.column or 1}"]
    return row
