"""One answer against its question: type, options, limits (http://hl7.org/fhir/R4/questionnaire.html)."""

from __future__ import annotations

from typing import Any

import re2

from profiles.validate.enabled import choice, equal
from profiles.validate.references import target_type
from profiles.validate.report import Report
from profiles.validate.spots import Spot, members
from profiles.validate.values import beyond, extension, extensions, shown

Json = dict[str, Any]
EXTENSION = "http://hl7.org/fhir/StructureDefinition/"
SDC = "http://hl7.org/fhir/uv/sdc/StructureDefinition/sdc-questionnaire-"

TYPES: dict[str, tuple[str, ...]] = {
    "boolean": ("boolean",),
    "decimal": ("decimal",),
    "integer": ("integer",),
    "date": ("date",),
    "dateTime": ("dateTime",),
    "time": ("time",),
    "string": ("string",),
    "text": ("string",),
    "url": ("uri",),
    "attachment": ("Attachment",),
    "reference": ("Reference",),
    "quantity": ("Quantity",),
    "choice": ("Coding",),
    "open-choice": ("Coding", "string"),
}


def check_count(report: Report, item: Spot, question: Json, count: int) -> None:
    """One answer, more where the question repeats, as many as its extensions say."""
    least = extension(question, EXTENSION + "questionnaire-minOccurs")
    most = extension(question, EXTENSION + "questionnaire-maxOccurs")
    if count > 1 and not question.get("repeats") and most is None:
        report.error("structure", item, f"one answer is allowed, not {count}")
    if isinstance(most, int) and count > most:
        report.error("structure", item, f"at most {most} answers are allowed, not {count}")
    if isinstance(least, int) and 0 < count < least:
        report.error("required", item, f"at least {least} answers are required, not {count}")
    exclusive = [
        o for o in question.get("answerOption", ()) if extension(o, EXTENSION + "questionnaire-optionExclusive")
    ]
    for reply in members(item, "answer") if count > 1 else ():
        chosen = choice(reply.value, "value")[1]
        if any(equal(chosen, choice_of(option)) for option in exclusive):
            report.error("business-rule", reply, f"{shown(chosen)} excludes every other answer")


def choice_of(option: Json) -> Any:
    return next((v for k, v in option.items() if k.startswith("value")), None)


def check_answer(report: Report, reply: Spot, question: Json) -> None:
    found = members(reply, "value")
    if not found:
        return
    value = found[0]
    allowed = types_of(question)
    if allowed and value.type not in allowed:
        report.error("structure", value, f"the answer must be of type {' or '.join(allowed)}, not {value.type}")
        return
    _check_options(report, value, question)
    _check_limits(report, value, question)
    _check_text(report, value, question)
    if value.type == "Reference":
        _check_reference(report, value, question)
    if value.type == "Attachment":
        _check_attachment(report, value, question)
    if value.type == "Quantity":
        _check_quantity(report, value, question)


def types_of(question: Json) -> tuple[str, ...]:
    """The types of answer its kind allows; a choice allows those of its options as well."""
    kind = str(question.get("type"))
    options = [k[5:] for o in question.get("answerOption", ()) for k in o if k.startswith("value")]
    names = [o if o in ("Coding", "Reference") else o[0].lower() + o[1:] for o in options]
    return tuple(dict.fromkeys((*TYPES.get(kind, ()), *(names if "choice" in kind else ()))))


def _check_options(report: Report, value: Spot, question: Json) -> None:
    """The options of a choice; text beside them is what an open choice is for."""
    options = [choice_of(o) for o in question.get("answerOption", ())]
    is_open = question.get("type") == "open-choice" and value.type == "string"
    if options and not is_open and not any(equal(value.value, o) for o in options):
        report.error("code-invalid", value, f"{shown(value.value)} is none of the options of the question")
    value_set = question.get("answerValueSet")
    if value_set and not is_open and report.library.member_of(value.value, value.type, value_set) is False:
        report.error("code-invalid", value, f"{shown(value.value)} is not in the value set {value_set}")


def _check_limits(report: Report, value: Spot, question: Json) -> None:
    low = extension(question, EXTENSION + "minValue")
    high = extension(question, EXTENSION + "maxValue")
    if low is not None and beyond(value, "<", low):
        report.error("value", value, f"{shown(value.value)} is less than the minimum {shown(low)}")
    if high is not None and beyond(value, ">", high):
        report.error("value", value, f"{shown(value.value)} is more than the maximum {shown(high)}")
    places = extension(question, EXTENSION + "maxDecimalPlaces")
    if isinstance(places, int) and value.type == "decimal" and len(str(value.value).partition(".")[2]) > places:
        report.error("value", value, f"{value.value} has more than {places} decimal places")


def _check_text(report: Report, value: Spot, question: Json) -> None:
    if not isinstance(value.value, str):
        return
    most, least = question.get("maxLength"), extension(question, EXTENSION + "minLength")
    if isinstance(most, int) and len(value.value) > most:
        report.error("too-long", value, f"at most {most} characters are allowed, not {len(value.value)}")
    if isinstance(least, int) and len(value.value) < least:
        report.error("value", value, f"at least {least} characters are required, not {len(value.value)}")
    pattern = extension(question, EXTENSION + "regex")
    if isinstance(pattern, str) and not matches(pattern, value.value):
        wanted = extension(question, EXTENSION + "entryFormat") or pattern
        report.error("value", value, f"{shown(value.value)} does not look like {wanted}")


def matches(pattern: str, text: str) -> bool:
    """Under RE2, in linear time; a pattern that RE2 does not know cannot be broken."""
    try:
        return re2.fullmatch(pattern, text) is not None
    except re2.error:
        return True


def _check_reference(report: Report, value: Spot, question: Json) -> None:
    """http://hl7.org/fhir/R4/extension-questionnaire-referenceresource.html"""
    kinds, found = extensions(question, EXTENSION + "questionnaire-referenceResource"), target_type(report, value)
    if kinds and found is not None and found not in kinds:
        report.error("structure", value, f"the target is of type {found}, allowed are {', '.join(map(str, kinds))}")


def _check_attachment(report: Report, value: Spot, question: Json) -> None:
    kinds = extensions(question, EXTENSION + "mimeType")
    if kinds and value.value.get("contentType") not in kinds:
        report.error(
            "value", value, f"{value.value.get('contentType')} is not allowed, only {', '.join(map(str, kinds))}"
        )
    most = extension(question, EXTENSION + "maxSize")
    size = value.value.get("size", len(value.value.get("data", "")) * 3 // 4)
    if most is not None and size > most * 1024 * 1024:
        report.error("too-long", value, f"{size} bytes are more than {most} MB")


def _check_quantity(report: Report, value: Spot, question: Json) -> None:
    units = extensions(question, EXTENSION + "questionnaire-unitOption")
    unit = {k: value.value[k] for k in ("system", "code") if k in value.value}
    if units and not any(equal(unit, u) for u in units):
        report.error("code-invalid", value, f"the unit {shown(unit)} is none of those of the question")
    value_set = extension(question, EXTENSION + "questionnaire-unitValueSet")
    if value_set and report.library.member_of(unit, "Coding", value_set) is False:
        report.error("code-invalid", value, f"the unit {shown(unit)} is not in the value set {value_set}")
    for name, operator, inverse in (("minQuantity", "<", ">="), ("maxQuantity", ">", "<=")):
        bound = extension(question, SDC + name)
        if bound is None:
            continue
        if beyond(value, operator, bound):
            report.error("value", value, f"{shown(value.value)} is beyond the limit {shown(bound)}")
        elif "code" not in bound or not beyond(value, inverse, bound):
            report.error("value", value, f"{shown(value.value)} cannot be compared with the limit {shown(bound)}")
