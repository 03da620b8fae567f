"""Visits: the appointment, the encounter, the diagnosis and what the nurse measured."""

from __future__ import annotations

from datetime import date, datetime, timedelta

from seed.chart import Chart, Visit, practitioner
from seed.codes import SPECIALTIES, VITALS, Disease, Measurement
from seed.elements import ACT, ICD10, LOINC, NUCC, Json, coding, concept, decimal, hl7, period, quantity
from seed.hospital import HOSPITAL
from seed.site import BEDS_PER_ROOM, SLOT, WARDS, Doctor

VITAL_SIGNS = [hl7("observation-category", "vital-signs", "Vital Signs")]
PROFILE = "http://hl7.org/fhir/StructureDefinition/"
PRESSURE = Measurement("85354-9", "Blood pressure panel with all children optional", "mm[Hg]", 0, None, None, 120, 11)
BODY = (
    Measurement("29463-7", "Body weight", "kg", 1, None, None, 75, 15),
    Measurement("8302-2", "Body height", "cm", 1, None, None, 168, 9),
    Measurement("39156-5", "Body mass index (BMI) [Ratio]", "kg/m2", 1, None, None, 26, 4),
)
PRESSURES = (("8480-6", "Systolic blood pressure"), ("8462-4", "Diastolic blood pressure"))


def visit(chart: Chart, disease: Disease, day: date) -> Visit:
    """Write one visit on the day or as soon as the doctor is free: appointment, encounter, diagnosis, vital signs."""
    doctor = chart.home if disease.specialty == "family" else chart.site.doctor(chart.rng, disease.specialty)
    start = chart.site.book(doctor, day)
    appointment = book(chart, doctor, start, "fulfilled")
    stay = timedelta(days=chart.rng.randint(1, 5)) if disease.procedure and chart.chance(0.4) else None
    end = start + (stay or SLOT)
    encounter_id = f"Encounter/{chart.id}-encounter-{chart.counts['Encounter'] + 1}"
    condition = diagnose(chart, disease, start.date(), {"reference": encounter_id})
    encounter = _encounter(chart, Visit({}, doctor, disease, condition, start, end), appointment, stay is not None)
    done = Visit(encounter, doctor, disease, condition, start, end)
    _vital_signs(chart, done)
    return done


def book(chart: Chart, doctor: Doctor, start: datetime, status: str) -> Json:
    """Write the Slot and the Appointment at its start."""
    code, display, name = SPECIALTIES[doctor.specialty]
    slot = chart.add("Slot", **slot_elements(chart.site.ref("Schedule", f"schedule-{doctor.key}"), start, "busy"))
    here = {"status": "accepted"}
    return chart.add(
        "Appointment",
        status=status,
        serviceType=[{"text": name}],
        specialty=[concept(NUCC, code, display)],
        appointmentType=hl7("v2-0276", "ROUTINE", "Routine appointment"),
        start=start,
        end=start + SLOT,
        minutesDuration=SLOT.seconds // 60,
        slot=[slot],
        participant=[
            {"actor": chart.patient, **here},
            {"actor": practitioner(chart, doctor), **here},
            {"actor": chart.site.ref("Location", f"{doctor.specialty}-clinic"), **here},
        ],
    )


def slot_elements(schedule: Json, start: datetime, status: str) -> Json:
    """The elements of a Slot as long as every slot."""
    return {"schedule": schedule, "status": status, "start": start, "end": start + SLOT}


def diagnose(chart: Chart, disease: Disease, day: date, encounter: Json) -> Json:
    """The patient's Condition, written when it is new: a chronic one is written once, an acute one resolves."""
    if disease.code in chart.known:
        return chart.known[disease.code]
    chronic = disease in chart.chronic
    status = ("active", "Active") if chronic else ("resolved", "Resolved")
    chart.known[disease.code] = condition = chart.add(
        "Condition",
        clinicalStatus=hl7("condition-clinical", *status),
        verificationStatus=hl7("condition-ver-status", "confirmed", "Confirmed"),
        category=[_category(chronic)],
        code=concept(ICD10, disease.code, disease.display),
        subject=chart.patient,
        encounter=encounter,
        onsetDateTime=day,
        abatementDateTime=None if chronic else day + timedelta(days=chart.rng.randint(5, 30)),
        recordedDate=day,
        recorder=practitioner(chart, chart.home),
    )
    return condition


def _category(chronic: bool) -> Json:
    row = ("problem-list-item", "Problem List Item") if chronic else ("encounter-diagnosis", "Encounter Diagnosis")
    return hl7("condition-category", *row)


def _encounter(chart: Chart, visit: Visit, appointment: Json, inpatient: bool) -> Json:
    times = period(visit.start, visit.end)
    kind = ("IMP", "inpatient encounter") if inpatient else ("AMB", "ambulatory")
    kind = ("EMER", "emergency") if visit.disease.specialty == "emergency" else kind
    return chart.add(
        "Encounter",
        status="finished",
        class_=coding(ACT, *kind),
        type=[{"text": f"{SPECIALTIES[visit.doctor.specialty][2]} visit"}],
        subject=chart.patient,
        participant=[
            {
                "type": [hl7("v3-ParticipationType", "ATND", "attender")],
                "period": times,
                "individual": practitioner(chart, visit.doctor),
            }
        ],
        appointment=[appointment],
        period=times,
        reasonCode=[{"text": visit.disease.display}],
        diagnosis=[
            {"condition": visit.condition, "use": hl7("diagnosis-role", "DD", "Discharge diagnosis"), "rank": 1}
        ],
        hospitalization={"dischargeDisposition": hl7("discharge-disposition", "home", "Home")} if inpatient else None,
        location=[{"location": _place(chart, visit, inpatient), "status": "completed", "period": times}],
        serviceProvider=chart.site.ref("Organization", "hospital", HOSPITAL),
    )


def _place(chart: Chart, visit: Visit, inpatient: bool) -> Json:
    if not inpatient:
        return chart.site.ref("Location", f"{visit.doctor.specialty}-clinic")
    ward, _, rooms = chart.rng.choice(WARDS)
    return chart.site.ref("Location", f"{ward}-bed-{chart.rng.randint(1, rooms)}-{chart.rng.randint(1, BEDS_PER_ROOM)}")


def observe(chart: Chart, visit: Visit, category: list[Json], row: Measurement, **elements: object) -> Json:
    """Write an Observation of the measurement, made at the visit."""
    return chart.add(
        "Observation",
        status="final",
        category=category,
        code=concept(LOINC, row.code, row.display),
        subject=chart.patient,
        encounter=visit.encounter,
        effectiveDateTime=visit.seen,
        issued=visit.seen + timedelta(minutes=2),
        performer=[practitioner(chart, visit.doctor)],
        **elements,
    )


def _vital_signs(chart: Chart, visit: Visit) -> None:
    _blood_pressure(chart, visit)
    _body(chart, visit)
    for row in chart.rng.sample(VITALS, 2):
        value = min(chart.rng.gauss(row.mean, row.spread), 100 if row.unit == "%" else 400)
        _vital(chart, visit, row, value)


def _vital(chart: Chart, visit: Visit, row: Measurement, value: float) -> None:
    value_quantity = quantity(decimal(value, row.digits), row.unit)
    meta = {"profile": [PROFILE + "vitalsigns"]}
    observe(chart, visit, VITAL_SIGNS, row, meta=meta, valueQuantity=value_quantity)


def _blood_pressure(chart: Chart, visit: Visit) -> None:
    high = 16 if "I10" in chart.known else 0
    systolic = round(chart.rng.gauss(120 + high, 11))
    values = (systolic, round(systolic * chart.rng.uniform(0.58, 0.7)))
    code = "H" if systolic >= 140 else "N"
    observe(
        chart,
        visit,
        VITAL_SIGNS,
        PRESSURE,
        meta={"profile": [PROFILE + "bp"]},
        interpretation=[hl7("v3-ObservationInterpretation", code, "High" if code == "H" else "Normal")],
        bodySite={"text": "Right arm"},
        component=[
            {"code": concept(LOINC, *loinc), "valueQuantity": quantity(value, "mm[Hg]", "mmHg")}
            for loinc, value in zip(PRESSURES, values, strict=True)
        ],
    )


def _body(chart: Chart, visit: Visit) -> None:
    """Height, weight and mass index; a child's grow with the age."""
    height = chart.known.setdefault("height", {"adult": chart.rng.gauss(168, 9), "index": chart.rng.gauss(26, 4)})
    grown = min(1.0, 0.32 + 0.04 * chart.age(visit.start.date()))
    centimetres = height["adult"] * grown
    index = max(15.0, (height["index"] - 8 * (1 - grown)) + chart.rng.gauss(0, 0.5))
    weight = index * (centimetres / 100) ** 2
    for row, value in zip(BODY, (weight, centimetres, index), strict=True):
        _vital(chart, visit, row, value)
