"""Where in a Bundle a fault is: pure."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fhir_server.bundles.entries import Entry
from profiles.outcome import FhirError, Issue

PARAMETER = "http."  # how an expression names a header or a parameter (R4 operationoutcome.html)


@contextmanager
def about(entry: Entry) -> Iterator[None]:
    """Errors leave the block with the entry that they are about."""
    try:
        yield
    except FhirError as error:
        issues = [placed(issue, entry) for issue in error.issues]
        raise FhirError(error.code, error.text, status=error.status, headers=error.headers, issues=issues) from error


def placed(issue: Issue, entry: Entry) -> Issue:
    """The issue with its place in the Bundle: `Bundle.entry[3].resource.birthDate`."""
    places = tuple(_place(text, entry) for text in issue.expression) or (entry.place,)
    return Issue(issue.severity, issue.code, f"{entry.place}: {issue.text}", places)


def _place(text: str, entry: Entry) -> str:
    """What is said of a parameter is said of the URL, all else of the resource."""
    if text.startswith(PARAMETER):
        return f"{entry.place}.request.url"
    inner = text.removeprefix(f"{entry.type}.").removeprefix(entry.type)
    return f"{entry.place}.resource.{inner}".rstrip(".")
