"""Laboratory: the request, the specimen, the results with their reference ranges, and the report."""

from __future__ import annotations

from datetime import timedelta

from seed.chart import Chart, Visit, practitioner
from seed.codes import MEASUREMENTS, PANELS, Measurement
from seed.elements import HL7, LOINC, Json, concept, decimal, hl7, identifier, present, quantity
from seed.visits import observe

LABORATORY = [hl7("observation-category", "laboratory", "Laboratory")]
RAISED = {"E11.9": {"hba1c", "glucose"}, "E78.5": {"cholesterol", "ldl"}, "N18.30": {"creatinine"}, "E03.9": {"tsh"}}
LOWERED = {"D50.9": {"hemoglobin", "hematocrit"}}
MEANING = {"H": "High", "L": "Low", "N": "Normal"}


def laboratory(chart: Chart, visit: Visit, panel: str) -> None:
    """Order the panel at the visit and write everything up to the report."""
    code, display, members = PANELS[panel]
    order = _order(chart, visit, concept(LOINC, code, display))
    specimen = _specimen(chart, visit, order)
    results = [_result(chart, visit, key, order, specimen) for key in members]
    chart.add(
        "DiagnosticReport",
        identifier=[identifier("reports", f"R{chart.id}-{chart.counts['DiagnosticReport'] + 1}", "FILL")],
        basedOn=[order],
        status="final",
        category=[hl7("v2-0074", "LAB", "Laboratory")],
        code=concept(LOINC, code, display),
        subject=chart.patient,
        encounter=visit.encounter,
        effectiveDateTime=visit.seen,
        issued=visit.seen + timedelta(hours=5),
        performer=[chart.site.ref("Organization", "laboratory")],
        specimen=[specimen],
        result=results,
        conclusion="See the single results.",
    )


def _order(chart: Chart, visit: Visit, code: Json) -> Json:
    return chart.add(
        "ServiceRequest",
        status="completed",
        intent="order",
        category=[{"text": "Laboratory procedure"}],
        priority="routine",
        code=code,
        subject=chart.patient,
        encounter=visit.encounter,
        authoredOn=visit.seen,
        requester=practitioner(chart, visit.doctor),
        performer=[chart.site.ref("Organization", "laboratory")],
        reasonReference=[visit.condition],
    )


def _specimen(chart: Chart, visit: Visit, order: Json) -> Json:
    accession = f"A{chart.id}-{chart.counts['Specimen'] + 1}"
    return chart.add(
        "Specimen",
        accessionIdentifier=identifier("accessions", accession),
        status="available",
        type=hl7("v2-0487", "BLD", "Whole blood"),
        subject=chart.patient,
        receivedTime=visit.seen + timedelta(hours=1),
        request=[order],
        collection={"collector": practitioner(chart, visit.doctor), "collectedDateTime": visit.seen},
    )


def _result(chart: Chart, visit: Visit, key: str, order: Json, specimen: Json) -> Json:
    row = MEASUREMENTS[key]
    value = max(decimal(_value(chart, key), row.digits), decimal(10.0**-row.digits, row.digits))
    meaning = _interpret(row, float(value))
    return observe(
        chart,
        visit,
        LABORATORY,
        row,
        basedOn=[order],
        valueQuantity=quantity(value, row.unit),
        interpretation=[hl7("v3-ObservationInterpretation", meaning, MEANING[meaning])],
        specimen=specimen,
        referenceRange=[_range(row)],
    )


def _value(chart: Chart, key: str) -> float:
    """A value of the healthy, shifted by what the patient is known to have."""
    row = MEASUREMENTS[key]
    raised = any(key in keys for code, keys in RAISED.items() if code in chart.known)
    lowered = any(key in keys for code, keys in LOWERED.items() if code in chart.known)
    return chart.rng.gauss(row.mean + 2.2 * row.spread * (raised - lowered), row.spread)


def _interpret(row: Measurement, value: float) -> str:
    if row.low is not None and value < row.low:
        return "L"
    return "H" if row.high is not None and value > row.high else "N"


def _range(row: Measurement) -> Json:
    low, high = (
        None if bound is None else quantity(decimal(bound, row.digits), row.unit) for bound in (row.low, row.high)
    )
    return present({"low": low, "high": high, "type": {"coding": [NORMAL]}})


NORMAL = {"system": HL7 + "referencerange-meaning", "code": "normal", "display": "Normal Range"}
