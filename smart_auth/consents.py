"""Privacy consents as access formulas (http://hl7.org/fhir/R4/consent.html, "Consent Rules").

A consent denies a region of the patient's compartment. A nested provision is an exception of the opposite kind to the
one around it. What cannot be decided counts for the patient: a denial then holds, an exception to it does not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from smart_auth.formulas import EVERYTHING, NOTHING, Formula, Pair, either, every, negate, where

Resource = Mapping[str, Any]
# policyRule codes that turn the rule around: nothing is shared but what the provisions permit.
OPT_OUT = frozenset({"OPTOUT", "OPTOUTE", "OPTINR", "EMRGONLY"})
# Of when the data of a type is, where not (only) its parameter `date` says it; the first is to be there.
DATES: Mapping[str, tuple[str, ...]] = {
    "Composition": ("date", "period"),
    "DiagnosticReport": ("date", "issued"),
    "DocumentReference": ("date", "period"),
    "MedicationRequest": ("authoredon", "date"),
}
# consent-data-meaning: the resource that is named is meant itself; of what else they mean no search parameter tells.
ITSELF = frozenset({"instance", "related", "dependents"})
_LITERAL = re.compile(r"([A-Z][A-Za-z]+)/([A-Za-z0-9\-.]{1,64})")
SHOWING = frozenset({"access", "use", "disclose"})


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks, for consents: references of the user (own resource, organization, roles), purpose, and the instant."""

    actors: frozenset[str]
    purpose: str
    now: datetime


# The search parameters of a type that hold any `concept` (CodeableConcept, Coding) or `date`.
Holding = Callable[[str, str], Collection[str]]


def patient_of(consent: Resource) -> str | None:
    """The id of the patient whose consent it is, or None when it is no local patient's."""
    reference = str((consent.get("patient") or {}).get("reference", ""))
    kind, _, identity = reference.partition("/")
    return identity if kind == "Patient" and identity and "/" not in identity else None


def in_force(consent: Resource, now: datetime) -> bool:
    """Whether it is an active privacy consent within its period."""
    scope = {coding.get("code") for coding in (consent.get("scope") or {}).get("coding", ())}
    period = (consent.get("provision") or {}).get("period")
    return consent.get("status") == "active" and "patient-privacy" in scope and _covers(period, now)


def denied(consent: Resource, kind: str, asker: Asker, holding: Holding) -> Formula:
    """What of a type this consent denies to the asker, within the patient's compartment."""
    root = consent.get("provision") or {}
    if _opts_out(consent) and root.get("type") == "permit":
        return negate(_effective(root, kind, asker, holding, deny=False))
    if root.get("type") == "deny" or _opts_out(consent):
        return _effective(root, kind, asker, holding, deny=True)
    region = _region(root, kind, asker, holding, deny=True)
    return every([region, either(_exceptions(root, kind, asker, holding, deny=True))])


def _opts_out(consent: Resource) -> bool:
    codes = {coding.get("code") for coding in (consent.get("policyRule") or {}).get("coding", ())}
    return bool(codes & OPT_OUT)


def _effective(rule: Resource, kind: str, asker: Asker, holding: Holding, *, deny: bool) -> Formula:
    """Where the rule applies: its region without its exceptions."""
    exceptions = _exceptions(rule, kind, asker, holding, deny=not deny)
    return every([_region(rule, kind, asker, holding, deny=deny), *map(negate, exceptions)])


def _exceptions(rule: Resource, kind: str, asker: Asker, holding: Holding, *, deny: bool) -> list[Formula]:
    wanted = "deny" if deny else "permit"
    nested = (inner for inner in rule.get("provision", ()) if inner.get("type") == wanted)
    return [_effective(inner, kind, asker, holding, deny=deny) for inner in nested]


def _region(rule: Resource, kind: str, asker: Asker, holding: Holding, *, deny: bool) -> Formula:
    unsure = EVERYTHING if deny else NOTHING
    if not _concerns(rule, asker, unsure=deny):
        return NOTHING
    parts = [
        _classes(rule.get("class", ()), kind, unsure),
        _codes(rule.get("code", ()), kind, holding, unsure),
        _labels(rule.get("securityLabel", ()), unsure),
        _dates(rule.get("dataPeriod"), kind, holding, unsure),
        _instances(rule.get("data", ()), kind, unsure),
    ]
    return every(parts)


def _concerns(rule: Resource, asker: Asker, *, unsure: bool) -> bool:
    """Whether the rule is about this asker now; an actor without a literal reference might be anybody."""
    actors = {_literal(actor.get("reference") or {}) for actor in rule.get("actor", ())}
    purposes = {coding.get("code") for coding in rule.get("purpose", ())}
    actions = {code for action in rule.get("action", ()) for code in _coded(action) or (None,)}
    wanted = ((actors, asker.actors), (purposes, {asker.purpose}), (actions, SHOWING))
    return _covers(rule.get("period"), asker.now) and all(
        not named or not named.isdisjoint(held) or (unsure and None in named) for named, held in wanted
    )


def _literal(reference: Resource) -> str | None:
    text: str | None = reference.get("reference")
    return None if text is None or text.startswith("#") else text


def _coded(concept: Resource) -> list[str]:
    return [coding["code"] for coding in concept.get("coding", ()) if coding.get("code")]


def _classes(classes: Sequence[Resource], kind: str, unsure: Formula) -> Formula:
    if not classes:
        return EVERYTHING
    types = [coding.get("code") for coding in classes if str(coding.get("system", "")).endswith("/resource-types")]
    if kind in types:
        return EVERYTHING
    return NOTHING if len(types) == len(classes) and None not in types else unsure


def _codes(concepts: Sequence[Resource], kind: str, holding: Holding, unsure: Formula) -> Formula:
    """Where one of the codes is "found in an instance"; a concept in words alone might be found anywhere."""
    if not concepts:
        return EVERYTHING
    tokens = [_token(coding) for concept in concepts for coding in concept.get("coding", ()) if coding.get("code")]
    names = holding(kind, "concept") if tokens else ()
    found = [where((name, ",".join(tokens))) for name in names]
    return either(found if all(map(_coded, concepts)) else [*found, unsure])


def _labels(codings: Sequence[Resource], unsure: Formula) -> Formula:
    if not codings:
        return EVERYTHING
    tokens = [_token(coding) for coding in codings if coding.get("code")]
    return where(("_security", ",".join(tokens))) if len(tokens) == len(codings) else unsure


def _dates(period: Resource | None, kind: str, holding: Holding, unsure: Formula) -> Formula:
    """Where the data is of the period; for a denial also where nothing says that it is not."""
    if not period:
        return EVERYTHING
    names, (start, end) = DATES.get(kind, ("date",)), (period.get("start"), period.get("end"))
    if not (start or end) or not set(names) <= set(holding(kind, "date")):
        return unsure
    within = [where(*_bounds(name, ("ge", start), ("le", end))) for name in names]
    outside = either(where(pair) for pair in _bounds(names[0], ("eb", start), ("sa", end)))
    return within[0] if unsure == NOTHING else either([*within, negate(outside)])


def _bounds(name: str, *limits: tuple[str, str | None]) -> list[Pair]:
    return [(name, prefix + bound) for prefix, bound in limits if bound]


def _instances(data: Sequence[Resource], kind: str, unsure: Formula) -> Formula:
    if not data:
        return EVERYTHING
    texts = (str((each.get("reference") or {}).get("reference", "")) for each in data)
    named = [(each.get("meaning"), _LITERAL.fullmatch(text)) for each, text in zip(data, texts, strict=True)]
    ids = [found[2] for meaning, found in named if meaning in ITSELF and found and found[1] == kind]
    decided = all(meaning == "instance" and found for meaning, found in named)
    return either([where(("_id", ",".join(ids))) if ids else NOTHING, NOTHING if decided else unsure])


def _token(coding: Resource) -> str:
    return "|".join(escaped(str(coding[key])) for key in ("system", "code") if coding.get(key))


def escaped(text: str) -> str:
    """A text as part of a search value: what parts values is itself."""
    for character in "\\,|$":
        text = text.replace(character, "\\" + character)
    return text


def _covers(period: Resource | None, now: datetime) -> bool:
    """Whether the instant lies in a FHIR Period; the end includes the whole of its last day, month or year."""
    if not period:
        return True
    text = now.strftime("%Y-%m-%dT%H:%M:%S")
    start, end = period.get("start"), period.get("end")
    return (not start or _utc(start) <= text[: len(_utc(start))]) and (not end or text[: len(_utc(end))] <= _utc(end))


def _utc(instant: str) -> str:
    if "T" not in instant:
        return instant
    return datetime.fromisoformat(instant.replace("Z", "+00:00")).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")


def denials(
    consents: Iterable[Resource],
    kind: str,
    asker: Asker,
    holding: Holding,
    compartment: Callable[[tuple[str, ...]], Formula],
) -> Formula:
    """What of a type all consents together deny; patients with the same denial share one part of the formula.

    `compartment(patients)` is what of the type belongs to them. A patient's own access is never denied.
    """
    regions: dict[Formula, list[str]] = {}
    for consent in consents:
        patient = patient_of(consent)
        if patient is None or f"Patient/{patient}" in asker.actors or not in_force(consent, asker.now):
            continue
        region = denied(consent, kind, asker, holding)
        if region != NOTHING:
            regions.setdefault(region, []).append(patient)
    return either(every([compartment(tuple(sorted(set(ids)))), region]) for region, ids in regions.items())
