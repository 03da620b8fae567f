"""What a Questionnaire must be beyond its invariants (http://hl7.org/fhir/R4/questionnaire.html)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from profiles.validate.answer_values import types_of
from profiles.validate.report import Report
from profiles.validate.spots import Spot, members

Json = dict[str, Any]


def check_questionnaire(report: Report, spot: Spot) -> None:
    """Conditions ask about other questions, in their types; options and initial values are possible answers."""
    items = list(_items(spot))
    known = {item.value.get("linkId"): item.value for item in items}
    for item in items:
        for condition in members(item, "enableWhen"):
            _check_condition(report, item, condition, known)
        for name in ("answerOption", "initial"):
            for option in members(item, name):
                _check_type(report, option, "value", item.value)


def _items(holder: Spot) -> Iterator[Spot]:
    for item in members(holder, "item"):
        yield item
        yield from _items(item)


def _check_condition(report: Report, item: Spot, condition: Spot, known: dict[Any, Json]) -> None:
    name = condition.value.get("question")
    asked = known.get(name)
    if asked is None:
        report.error("not-found", condition, f"the questionnaire has no question '{name}'")
    elif asked is item.value:
        report.error("business-rule", condition, f"the question '{name}' cannot depend on its own answer")
    elif condition.value.get("operator") != "exists":
        _check_type(report, condition, "answer", asked)


def _check_type(report: Report, holder: Spot, name: str, question: Json) -> None:
    allowed = types_of(question)
    for value in members(holder, name):
        if allowed and value.type not in allowed:
            report.error(
                "value", value, f"a question of type {question.get('type')} has no answer of type {value.type}"
            )
