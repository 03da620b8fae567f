"""What a visit costs: charge items, the claim with its answer, and the invoice for the patient's share."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from seed.chart import Chart, Visit, practitioner
from seed.codes import PROCEDURES
from seed.elements import Json, hl7, identifier, money

VISIT_PRICE = Decimal("125.00")
SHARE = Decimal("0.20")


def bill(chart: Chart, visit: Visit) -> None:
    """Write the charge, the claim, its adjudication and the invoice of the patient's share."""
    price = VISIT_PRICE + PROCEDURES.get(visit.disease.procedure or "", ("", 0))[1]
    charge = _charge(chart, visit, price)
    claim = _claim(chart, visit, price)
    share = (price * SHARE).quantize(Decimal("0.01"))
    _answer(chart, visit, claim, price, share)
    if chart.chance(0.6):
        _invoice(chart, visit, charge, share)


def _charge(chart: Chart, visit: Visit, price: Decimal) -> Json:
    return chart.add(
        "ChargeItem",
        status="billed",
        code={"text": f"Visit: {visit.disease.display}"},
        subject=chart.patient,
        context=visit.encounter,
        occurrenceDateTime=visit.start,
        performer=[{"actor": practitioner(chart, visit.doctor)}],
        quantity={"value": 1},
        priceOverride=money(price),
        enteredDate=visit.end,
        reason=[{"text": visit.disease.display}],
    )


def _claim(chart: Chart, visit: Visit, price: Decimal) -> Json:
    return chart.add(
        "Claim",
        identifier=[identifier("claims", f"C{chart.id}-{chart.counts['Claim'] + 1}")],
        status="active",
        type=hl7("claim-type", "professional", "Professional"),
        use="claim",
        patient=chart.patient,
        created=visit.end,
        insurer=chart.known["insurer"],
        provider=chart.site.ref("Organization", "hospital"),
        priority=hl7("processpriority", "normal", "Normal"),
        diagnosis=[{"sequence": 1, "diagnosisReference": visit.condition}],
        insurance=[{"sequence": 1, "focal": True, "coverage": chart.known["coverage"]}],
        item=[
            {
                "sequence": 1,
                "diagnosisSequence": [1],
                "productOrService": {"text": f"Visit: {visit.disease.display}"},
                "servicedDate": visit.start.date(),
                "unitPrice": money(price),
                "net": money(price),
                "encounter": [visit.encounter],
            }
        ],
        total=money(price),
    )


def _answer(chart: Chart, visit: Visit, claim: Json, price: Decimal, share: Decimal) -> None:
    amounts = (("submitted", price), ("copay", share), ("benefit", price - share))
    adjudication = [{"category": hl7("adjudication", code), "amount": money(amount)} for code, amount in amounts]
    chart.add(
        "ClaimResponse",
        status="active",
        type=hl7("claim-type", "professional", "Professional"),
        use="claim",
        patient=chart.patient,
        created=visit.end + timedelta(days=6),
        insurer=chart.known["insurer"],
        request=claim,
        outcome="complete",
        disposition="Settled as billed.",
        item=[{"itemSequence": 1, "adjudication": adjudication}],
        total=[{"category": hl7("adjudication", "benefit"), "amount": money(price - share)}],
        payment={
            "type": hl7("ex-paymenttype", "complete", "Complete"),
            "date": visit.end.date() + timedelta(days=10),
            "amount": money(price - share),
        },
    )


def _invoice(chart: Chart, visit: Visit, charge: Json, share: Decimal) -> None:
    chart.add(
        "Invoice",
        identifier=[identifier("invoices", f"I{chart.id}-{chart.counts['Invoice'] + 1}")],
        status=chart.rng.choice(("issued", "balanced", "balanced")),
        type={"text": "Patient's share"},
        subject=chart.patient,
        recipient=chart.patient,
        date=visit.end + timedelta(days=12),
        issuer=chart.site.ref("Organization", "billing"),
        lineItem=[
            {
                "sequence": 1,
                "chargeItemReference": charge,
                "priceComponent": [{"type": "base", "factor": SHARE, "amount": money(share)}],
            }
        ],
        totalNet=money(share),
        totalGross=money(share),
        paymentTerms="Payable within 30 days.",
    )
