"""The Bundle around the resources of a batch or transaction: pure (http://hl7.org/fhir/R4/bundle.html).

The resources are checked as what they are when their turn comes. What is around them is checked here, because a
misspelt `ifNoneExist` that nobody reads makes a second patient of the first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fhir_server.bundles.entries import Entry, read_entries
from profiles.outcome import FhirError, Issue
from profiles.validate import check

PLACE = re.compile(r"Bundle\.entry\[(\d+)\]", re.ASCII)


def checked_entries(bundle: Mapping[str, Any], base: str, most: int) -> list[Entry | FhirError]:
    """Every entry, or the error with all that is wrong about it; FhirError for what is wrong with the Bundle itself."""
    rows = read_entries(bundle, base, most)
    by_entry: dict[int, list[Issue]] = {}
    own: list[Issue] = []
    for issue in envelope_faults(bundle):
        place = PLACE.match(issue.expression[0])
        (own if place is None else by_entry.setdefault(int(place[1]), [])).append(issue)
    if own:
        raise FhirError.of([*own, *(issue for issues in by_entry.values() for issue in issues)])
    return [_judged(row, by_entry.get(number)) for number, row in enumerate(rows)]


def _judged(row: Entry | FhirError, issues: list[Issue] | None) -> Entry | FhirError:
    """What could not even be read has told the first of its faults better than the definitions do."""
    return row if issues is None or isinstance(row, FhirError) else FhirError.of(issues)


def envelope_faults(bundle: Mapping[str, Any]) -> list[Issue]:
    """Every fault of the Bundle and its entries against the definition, resources aside."""
    entries = [_without_resource(row) for row in bundle.get("entry", ())]
    rest = {name: value for name, value in bundle.items() if name != "entry"}
    return check(rest | {"entry": entries} if entries else rest)


def _without_resource(row: Any) -> Any:
    return {name: value for name, value in row.items() if name != "resource"} if isinstance(row, dict) else row
