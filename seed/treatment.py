"""What is done about a disease: prescriptions and dispenses, procedures, immunizations, plans with goals."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta

from seed.chart import Chart, Visit, practitioner
from seed.codes import DRUGS, PROCEDURES, VACCINES, Drug
from seed.elements import ATC, CVX, ICD10PCS, LOINC, UCUM, Json, concept, decimal, hl7, period, quantity
from seed.site import ZONE


def prescribe(chart: Chart, visit: Visit, key: str) -> None:
    """Prescribe the drug, and have most prescriptions dispensed on the same day."""
    drug = DRUGS[key]
    until = visit.start.date() + timedelta(days=drug.days)
    current = until >= chart.site.as_of.date() and not chart.died
    medication = concept(ATC, drug.code, drug.display)
    request = chart.add(
        "MedicationRequest",
        status="active" if current else "completed",
        intent="order",
        category=[hl7("medicationrequest-category", "outpatient", "Outpatient")],
        medicationReference=chart.site.ref("Medication", f"drug-{key}", drug.display),
        subject=chart.patient,
        encounter=visit.encounter,
        authoredOn=visit.seen,
        requester=practitioner(chart, visit.doctor),
        reasonReference=[visit.condition],
        dosageInstruction=[_dosage(drug)],
        dispenseRequest={
            "validityPeriod": period(visit.start.date(), until),
            "numberOfRepeatsAllowed": chart.rng.randint(0, 3),
            "quantity": {"value": drug.days * drug.per_day, "unit": "{dose}", "system": UCUM, "code": "{dose}"},
            "expectedSupplyDuration": quantity(drug.days, "d", "days"),
        },
    )
    if chart.chance(0.7):
        _dispense(chart, visit, drug, medication, request)


def _dosage(drug: Drug) -> Json:
    amount = decimal(drug.dose, 3 if drug.dose < 0.1 else 1)
    return {
        "sequence": 1,
        "text": drug.instruction,
        "timing": {"repeat": {"frequency": drug.per_day, "period": 1, "periodUnit": "d"}},
        "route": hl7("v3-RouteOfAdministration", drug.route),
        "doseAndRate": [
            {"type": hl7("dose-rate-type", "ordered", "Ordered"), "doseQuantity": quantity(amount, drug.unit)}
        ],
    }


def _dispense(chart: Chart, visit: Visit, drug: Drug, medication: Json, request: Json) -> None:
    handed_over = visit.end + timedelta(hours=1)
    chart.add(
        "MedicationDispense",
        status="completed",
        medicationCodeableConcept=medication,
        subject=chart.patient,
        context=visit.encounter,
        performer=[{"actor": chart.site.ref("Organization", "pharmacy")}],
        authorizingPrescription=[request],
        quantity={"value": drug.days * drug.per_day, "unit": "{dose}", "system": UCUM, "code": "{dose}"},
        daysSupply=quantity(drug.days, "d", "days"),
        whenPrepared=handed_over,
        whenHandedOver=handed_over,
    )


def operate(chart: Chart, visit: Visit) -> None:
    """Write the procedure that belongs to the disease, if it has one."""
    code = visit.disease.procedure
    if code is None:
        return
    chart.known["procedure"] = chart.add(
        "Procedure",
        status="completed",
        code=concept(ICD10PCS, code, PROCEDURES[code][0]),
        subject=chart.patient,
        encounter=visit.encounter,
        performedPeriod=period(visit.seen, visit.seen + timedelta(minutes=45)),
        performer=[{"actor": practitioner(chart, visit.doctor)}],
        location=chart.site.ref("Location", f"{visit.doctor.specialty}-clinic"),
        reasonReference=[visit.condition],
        note=[{"text": "Without complications.", "time": visit.end}],
    )


def immunize(chart: Chart, start: date, end: date) -> None:
    """Write the vaccinations that were due between the days."""
    for code, display, months, youngest in VACCINES:
        day = start + timedelta(days=chart.rng.randint(0, 200))
        while day < end:
            if chart.age(day) >= youngest and chart.chance(0.6):
                _immunization(chart, code, display, day)
            day += timedelta(days=months * 30)


def _immunization(chart: Chart, code: str, display: str, day: date) -> None:
    chart.add(
        "Immunization",
        status="completed",
        vaccineCode=concept(CVX, code, display),
        patient=chart.patient,
        occurrenceDateTime=datetime.combine(day, time(10, 15), ZONE),
        recorded=day,
        primarySource=True,
        location=chart.site.ref("Location", "family-clinic"),
        lotNumber=f"L{chart.rng.randint(10_000, 99_999)}",
        expirationDate=day + timedelta(days=240),
        site=hl7("v3-ActSite", "LA", "left arm"),
        route=hl7("v3-RouteOfAdministration", "IM", "Injection, intramuscular"),
        doseQuantity=quantity(decimal(0.5, 1), "mL"),
        performer=[
            {"function": hl7("v2-0443", "AP", "Administering Provider"), "actor": practitioner(chart, chart.home)}
        ],
    )


def plan(chart: Chart, visit: Visit) -> None:
    """Write a goal for the disease and the plan that pursues it."""
    goal = chart.add(
        "Goal",
        lifecycleStatus="active",
        achievementStatus=hl7("goal-achievement", chart.rng.choice(("improving", "in-progress", "no-change"))),
        priority=hl7("goal-priority", "medium-priority", "Medium Priority"),
        description={"text": "Systolic blood pressure below 140 mmHg"},
        subject=chart.patient,
        startDate=visit.start.date(),
        target=[
            {
                "measure": concept(LOINC, "8480-6", "Systolic blood pressure"),
                "detailQuantity": quantity(140, "mm[Hg]", "mmHg") | {"comparator": "<"},
                "dueDate": visit.start.date() + timedelta(days=365),
            }
        ],
        addresses=[visit.condition],
    )
    chart.add(
        "CarePlan",
        status="active",
        intent="plan",
        title=f"Care plan: {visit.disease.display}",
        category=[{"text": "Disease management"}],
        subject=chart.patient,
        encounter=visit.encounter,
        period=period(visit.start.date()),
        author=practitioner(chart, visit.doctor),
        careTeam=[chart.known["team"]],
        addresses=[visit.condition],
        goal=[goal],
        activity=[
            {"detail": _activity(chart, text)} for text in ("Walk 30 minutes a day", "Measure blood pressure weekly")
        ],
    )


def _activity(chart: Chart, text: str) -> Json:
    return {"status": "in-progress", "code": {"text": text}, "performer": [chart.patient], "description": text}
