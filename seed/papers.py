"""Papers around the care: forms filled in, documents, the problem list, tasks and messages."""

from __future__ import annotations

from base64 import b64encode
from datetime import datetime, timedelta

from seed.chart import Chart, Visit, practitioner
from seed.codes import Measurement
from seed.elements import LOINC, SITE, Json, concept, hl7, identifier, period
from seed.hospital import HOSPITAL
from seed.visits import observe

SMOKING = Measurement("72166-2", "Tobacco smoking status", "", 0, None, None, 0, 0)
SMOKES = (("LA18978-9", "Never smoker"), ("LA15920-4", "Former smoker"), ("LA18977-1", "Light tobacco smoker"))


def fill_in(chart: Chart, visit: Visit) -> None:
    """Write the answers to the intake form, and the smoking status that follows from them."""
    never = chart.chance(0.7)
    answers: tuple[Json, ...] = (
        {"valueBoolean": not never},
        {"valueInteger": chart.rng.randint(0, 7)},
        {"valueString": visit.disease.display},
    )
    response = chart.add(
        "QuestionnaireResponse",
        questionnaire=f"{SITE}Questionnaire/{chart.site.tag}intake",
        status="completed",
        subject=chart.patient,
        encounter=visit.encounter,
        authored=visit.start,
        source=chart.patient,
        item=[{"linkId": str(number), "answer": [answer]} for number, answer in enumerate(answers, 1)],
    )
    observe(
        chart,
        visit,
        [hl7("observation-category", "social-history", "Social History")],
        SMOKING,
        derivedFrom=[response],
        valueCodeableConcept=concept(LOINC, *SMOKES[0 if never else chart.rng.randint(1, 2)]),
    )


def discharge_letter(chart: Chart, visit: Visit) -> None:
    """Write the visit's summary as a DocumentReference with its text inside."""
    text = f"{visit.disease.display} ({visit.disease.code}). Treated as agreed; review in three months."
    chart.add(
        "DocumentReference",
        identifier=[identifier("documents", f"D{chart.id}-{chart.counts['DocumentReference'] + 1}")],
        status="current",
        docStatus="final",
        type=concept(LOINC, "34133-9", "Summary of episode note"),
        category=[{"text": "Clinical note"}],
        subject=chart.patient,
        date=visit.end,
        author=[practitioner(chart, visit.doctor)],
        custodian=chart.site.ref("Organization", "hospital", HOSPITAL),
        securityLabel=[hl7("v3-Confidentiality", "N", "normal")],
        content=[{"attachment": _attachment(text, visit)}],
        context={"encounter": [visit.encounter], "period": period(visit.start, visit.end)},
    )


def _attachment(text: str, visit: Visit) -> Json:
    data = b64encode(text.encode()).decode()
    return {"contentType": "text/plain; charset=utf-8", "language": "en", "data": data, "creation": visit.end}


def problem_list(chart: Chart, when: datetime) -> None:
    """Write the List of what the patient chronically has."""
    entries = [{"item": chart.known[disease.code]} for disease in chart.chronic if disease.code in chart.known]
    if entries:
        chart.add(
            "List",
            status="current",
            mode="working",
            title="Problem list",
            code=concept(LOINC, "11450-4", "Problem list - Reported"),
            subject=chart.patient,
            date=when,
            source=practitioner(chart, chart.home),
            entry=entries,
        )


def follow_up(chart: Chart, visit: Visit) -> None:
    """Write the message that reminds the patient, and the task to see to it."""
    due = visit.end + timedelta(days=85)
    task = chart.add(
        "Task",
        status="completed" if due < chart.site.as_of else "requested",
        intent="order",
        priority="routine",
        description="Call the patient for a review",
        focus=visit.condition,
        for_=chart.patient,
        encounter=visit.encounter,
        executionPeriod=period(visit.end, due),
        authoredOn=visit.end,
        lastModified=visit.end,
        requester=practitioner(chart, visit.doctor),
        owner=practitioner(chart, chart.home),
    )
    chart.add(
        "Communication",
        basedOn=[task],
        status="completed",
        category=[hl7("communication-category", "reminder", "Reminder")],
        medium=[hl7("v3-ParticipationMode", "EMAILWRIT", "email")],
        subject=chart.patient,
        sent=due - timedelta(days=7),
        recipient=[chart.patient],
        sender=practitioner(chart, chart.home),
        payload=[{"contentString": "Please make an appointment for your review."}],
    )


def flag_risk(chart: Chart, when: datetime) -> None:
    """Write the Flag of those who must not fall."""
    chart.add(
        "Flag",
        status="active",
        category=[hl7("flag-category", "safety", "Safety")],
        code={"text": "Risk of falling"},
        subject=chart.patient,
        period=period(when),
        author=practitioner(chart, chart.home),
    )
