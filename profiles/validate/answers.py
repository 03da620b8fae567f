"""A QuestionnaireResponse against its Questionnaire (http://hl7.org/fhir/R4/questionnaireresponse.html)."""

from __future__ import annotations

from typing import Any

from profiles.validate.answer_values import check_answer, check_count
from profiles.validate.enabled import is_enabled
from profiles.validate.library import Library
from profiles.validate.report import Report
from profiles.validate.spots import Spot, members

Json = dict[str, Any]
DEFINING = ("Questionnaire", "StructureDefinition", "Measure", "ValueSet")
FINISHED = ("completed", "amended")


def check_response(report: Report, spot: Spot) -> None:
    """Every item of a response: known, at its place, in order, enabled, with answers its question allows."""
    url = spot.value.get("questionnaire")
    if not isinstance(url, str):
        report.add("warning", "incomplete", spot, "without a questionnaire the answers cannot be checked")
        return
    found = _questionnaire(report, spot, url)
    if found is None and (other := other_kind(report.library, url, "Questionnaire")):
        report.error("value", f"{spot.path}.questionnaire", f"{url} is a {other}, not a Questionnaire")
        return
    if found is None:
        report.add("warning", "not-found", f"{spot.path}.questionnaire", f"the questionnaire {url} is not known")
        return
    _check_items(report, spot, found.get("item", []), Answers(spot.value, found))


def _questionnaire(report: Report, spot: Spot, url: str) -> Json | None:
    if url.startswith("#"):
        held = spot.value.get("contained", [])
        return next((c for c in held if isinstance(c, dict) and c.get("id") == url[1:]), None)
    return report.library.definition("Questionnaire", url)


def other_kind(library: Library, url: str, wanted: str) -> str | None:
    """What a canonical that should mean one kind of definition means instead, as far as that is known."""
    kinds = (kind for kind in DEFINING if kind != wanted)
    return next((kind for kind in kinds if library.definition(kind, url) is not None), None)


class Answers:
    """What a whole response says: the items by linkId, and where the questionnaire has each linkId."""

    __slots__ = ("finished", "known", "response")

    def __init__(self, response: Json, questionnaire: Json) -> None:
        self.response = response
        self.finished = response.get("status") in FINISHED
        self.known: set[str] = set()
        self._learn(questionnaire.get("item", []))

    def _learn(self, items: list[Json]) -> None:
        for item in items:
            self.known.add(str(item.get("linkId")))
            self._learn(item.get("item", []))


def _check_items(report: Report, parent: Spot, questions: list[Json], answers: Answers) -> None:
    """The items below one place, in the order of the questions."""
    items = members(parent, "item")
    places = {q.get("linkId"): number for number, q in enumerate(questions)}
    last = -1
    for item in items:
        place = places.get(item.value.get("linkId"))
        if place is None:
            _misplaced(report, item, answers)
            continue
        if place < last:
            report.error(
                "structure", item, f"{item.value.get('linkId')!r} stands out of the order of the questionnaire"
            )
        last = max(last, place)
    for question in questions:
        found = [i for i in items if i.value.get("linkId") == question.get("linkId")]
        _check_question(report, parent, question, found, answers)


def _misplaced(report: Report, item: Spot, answers: Answers) -> None:
    link = item.value.get("linkId")
    if link in answers.known:
        report.error("structure", item, f"the question '{link}' has its place elsewhere in the questionnaire")
    else:
        report.error("structure", item, f"the questionnaire has no question '{link}'")


def _check_question(report: Report, parent: Spot, question: Json, items: list[Spot], answers: Answers) -> None:
    link, kind = question.get("linkId"), question.get("type")
    enabled = is_enabled(report, question, answers.response, parent)
    if not enabled:
        for item in items:
            if item.value.get("answer") or item.value.get("item"):
                report.error("business-rule", item, f"the question '{link}' is not enabled, yet it is answered")
        return
    if question.get("required") and not any(_is_answered(i, kind) for i in items):
        severity = "error" if answers.finished else "warning"
        report.add(severity, "required", parent, f"the question '{link}' must be answered")
    if len(items) > 1 and not (kind == "group" and question.get("repeats")):
        report.error("structure", items[1], f"the question '{link}' must have one item only")
    for item in items:
        _check_item(report, item, question, answers)


def _is_answered(item: Spot, kind: Any) -> bool:
    return bool(item.value.get("item") if kind in ("group", "display") else item.value.get("answer"))


def _check_item(report: Report, item: Spot, question: Json, answers: Answers) -> None:
    kind, inner = question.get("type"), question.get("item", [])
    said, wanted = item.value.get("text"), question.get("text")
    if said is not None and wanted is not None and said != wanted:
        report.add("warning", "value", item, f"the text is not that of the questionnaire: '{wanted}'")
    replies = members(item, "answer")
    if replies and kind in ("group", "display", "question"):
        report.error("structure", item, f"an item of type {kind} has no answers")
        return
    check_count(report, item, question, len(replies))
    for reply in replies:
        check_answer(report, reply, question)
        if inner:
            _check_items(report, reply, inner, answers)
    if kind == "group":
        _check_items(report, item, inner, answers)
    elif item.value.get("item") and not replies:
        report.error("structure", item, "items below a question stand below its answer")
