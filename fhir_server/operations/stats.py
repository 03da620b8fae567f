"""Observation/$stats: statistics of the values of a subject (R4 observation-operation-stats.html)."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

from fhir_server import access
from fhir_server.answers.respond import Response, instant_text, milliseconds, resource_answer
from fhir_server.context import Context, Pairs, Resource
from fhir_server.operations.call import Call
from fhir_server.store.find.page import find
from profiles.json import decode
from profiles.outcome import FhirError
from search.query import parse

SYSTEM = "http://terminology.hl7.org/CodeSystem/observation-statistics"
MOST = 10_000  # values of one code
Values = Sequence[Decimal]


def _percentile(share: int) -> Callable[[Values], Any]:
    return lambda values: statistics.quantiles(values, n=20, method="inclusive")[share // 5 - 1]


def _quartile_deviation(values: Values) -> Any:
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return (high - low) / 2


def _moment(values: Values, power: int) -> Any:
    """The standardized moment: 3 gives the skew, 4 the kurtosis."""
    mean, deviation = statistics.fmean(values), statistics.pstdev(values)
    return sum((float(value) - mean) ** power for value in values) / len(values) / float(deviation) ** power


# Code -> what is worked out, and how many values that takes.
STATISTICS: dict[str, tuple[Callable[[Values], Any], int]] = {
    "average": (statistics.mean, 1),
    "maximum": (max, 1),
    "minimum": (min, 1),
    "count": (len, 0),
    "total-count": (len, 0),
    "median": (statistics.median, 1),
    "std-dev": (statistics.stdev, 2),
    "sum": (sum, 0),
    "variance": (statistics.variance, 2),
    "20-percent": (_percentile(20), 2),
    "80-percent": (_percentile(80), 2),
    "4-lower": (_percentile(25), 2),
    "4-upper": (_percentile(75), 2),
    "4-dev": (_quartile_deviation, 2),
    "5-1": (_percentile(20), 2),
    "5-2": (_percentile(40), 2),
    "5-3": (_percentile(60), 2),
    "5-4": (_percentile(80), 2),
    "skew": (lambda values: _moment(values, 3), 3),
    "kurtosis": (lambda values: _moment(values, 4), 4),
}
PLAIN = frozenset(("count", "total-count", "skew", "kurtosis"))


async def run(call: Call, context: Context) -> Response:
    """Parameters: for each code an Observation with a component for each statistic; the sources on request."""
    wanted = [str(name) for name in call.all("statistic")]
    for name in wanted:
        if name not in STATISTICS:
            known = ", ".join(STATISTICS)
            raise FhirError("value", f"statistic={name} is not one of {known}.", "statistic", status=400)
    rows: list[dict[str, Any]] = []
    for coding in _codings(call):
        found = await _observations(coding, call, context)
        rows.append({"name": "statistics", "resource": _summary(coding, found, wanted, call, context)})
        if call.one("include"):
            rows += [{"name": "source", "resource": row} for row in found[: int(call.one("limit") or MOST)]]
    return resource_answer({"resourceType": "Parameters", "parameter": rows})


def _codings(call: Call) -> list[Resource]:
    system = call.one("system")
    given = [{"system": system, "code": code} if system else {"code": code} for code in call.all("code")]
    codings: list[Resource] = [*given, *call.all("coding")]
    if not codings:
        raise FhirError("required", "$stats needs the parameter code or coding.", "code", status=400)
    return codings


async def _observations(coding: Resource, call: Call, context: Context) -> list[Resource]:
    name = "|".join(part for part in (coding.get("system"), coding.get("code")) if part)
    asked: Pairs = [("subject", str(call.one("subject"))), ("code", name), ("_sort", "date"), ("_count", "1000")]
    asked += [("date", value) for value in _period(call, context)]
    now = milliseconds(context.now())
    query = parse("Observation", asked, context.registry, base=context.config.base, now=now)
    access.check_query(call.request, context, query)
    visible, cursor = access.clause_of(call.request, context), None
    rows: list[Resource] = []
    while True:
        found = await find(context.store, query, registry=context.registry, cursor=cursor, access=visible)
        call.opened.extend(found.matches)
        shown = [access.shown(call.request, context, stored) for stored in found.matches]
        rows += [decode(stored.body or b"{}") for stored in shown]
        cursor = found.next
        if cursor is None:
            return [row for row in rows if row.get("status") not in ("entered-in-error", "cancelled")]
        if len(rows) >= MOST:
            raise FhirError("too-costly", f"More than {MOST} observations match; choose a shorter period.")


def _period(call: Call, context: Context) -> list[str]:
    if call.one("duration") is not None:
        try:
            start = context.now() - timedelta(hours=float(call.one("duration")))
        except (OverflowError, ValueError):
            raise FhirError("value", "duration is a number of hours.", "duration", status=400) from None
        return [f"ge{instant_text(start)}"]
    period = call.one("period") or {}
    return [prefix + period[key] for key, prefix in (("start", "ge"), ("end", "le")) if key in period]


def _summary(coding: Resource, found: list[Resource], wanted: list[str], call: Call, context: Context) -> Resource:
    quantities = [row["valueQuantity"] for row in found if "value" in row.get("valueQuantity", {})]
    units = {(row.get("system"), row.get("code"), row.get("unit") if not row.get("code") else "") for row in quantities}
    if len(units) > 1:
        raise FhirError("business-rule", "The values have different units, and are not put together.", "code")
    values = [Decimal(row["value"]) for row in quantities]
    subject = str(call.one("subject")).removeprefix(f"{context.config.base}/")
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [coding]},
        "subject": {"reference": subject if "/" in subject else f"Patient/{subject}"},
        "effectiveDateTime": instant_text(context.now()),
        "component": [_component(name, values, found, quantities[:1]) for name in wanted],
    }


def _component(name: str, values: Values, found: list[Resource], sample: list[Resource]) -> Resource:
    work, least = STATISTICS[name]
    row: Resource = {"code": {"coding": [{"system": SYSTEM, "code": name}]}}
    counted: Sequence[Any] = found if name == "total-count" else values
    if len(counted) < least or (name in ("skew", "kurtosis") and len(set(values)) < 2):
        absent = "http://terminology.hl7.org/CodeSystem/data-absent-reason"
        return row | {"dataAbsentReason": {"coding": [{"system": absent, "code": "not-applicable"}]}}
    value = work(counted)
    exact = Decimal(f"{value:.10g}") if not isinstance(value, int) else value
    first: Resource = sample[0] if sample and name not in PLAIN else {}
    unit: Resource = {key: first[key] for key in ("unit", "system", "code") if key in first}
    return row | {"valueQuantity": {"value": exact, **unit}}
