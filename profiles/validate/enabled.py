"""When a question is asked: enableWhen (http://hl7.org/fhir/R4/questionnaire-definitions.html#Questionnaire.item.enableWhen)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from profiles.validate.report import Report
from profiles.validate.spots import Spot, keys
from profiles.validate.values import beyond, fits, same

Json = dict[str, Any]


def is_enabled(report: Report, question: Json, response: Json, place: Spot) -> bool:
    """Whether the conditions of a question hold: all or any of them; without one it is always asked."""
    conditions = question.get("enableWhen", [])
    if not conditions:
        return True
    results = [_holds(c, list(replies(response, c.get("question")))) for c in conditions]
    return all(results) if question.get("enableBehavior") == "all" else any(results)


def replies(holder: Any, link: Any) -> Iterator[Json]:
    """All answers to a question anywhere in a response."""
    for item in holder.get("item", ()):
        if isinstance(item, dict):
            answers = [a for a in item.get("answer", ()) if isinstance(a, dict)]
            if item.get("linkId") == link:
                yield from answers
            for below in (item, *answers):
                yield from replies(below, link)


def _holds(condition: Json, found: list[Json]) -> bool:
    operator = condition.get("operator")
    kind, wanted = choice(condition, "answer")
    if operator == "exists":
        return bool(found) == bool(wanted)
    compare = _COMPARE.get(str(operator))
    return compare is not None and any(compare(value, kind, wanted) for _, value in (choice(a, "value") for a in found))


def choice(holder: Json, prefix: str) -> tuple[str, Any]:
    """The type and value of `value[x]` or `answer[x]`; ("", None) without one."""
    names = {"answer": "Questionnaire.item.enableWhen", "value": "QuestionnaireResponse.item.answer"}
    for key, kind, _, _ in keys(names[prefix], prefix):
        if key in holder:
            return kind, holder[key]
    return "", None


def equal(value: Any, wanted: Any) -> bool:
    """Codings are equal by system and code, everything else as it stands."""
    if isinstance(wanted, dict) and "code" in wanted:
        return isinstance(value, dict) and all(value.get(k) == wanted.get(k) for k in ("system", "code"))
    return fits(value, wanted) if isinstance(wanted, dict) else same(value, wanted)


def _is_beyond(operator: str) -> Callable[[Any, str, Any], bool]:
    def test(value: Any, kind: str, wanted: Any) -> bool:
        return beyond(Spot(value, None, kind, "", "", {}, {}), operator, wanted)

    return test


_COMPARE: dict[str, Callable[[Any, str, Any], bool]] = {
    "=": lambda value, kind, wanted: equal(value, wanted),
    "!=": lambda value, kind, wanted: not equal(value, wanted),
    **{operator: _is_beyond(operator) for operator in (">", "<", ">=", "<=")},
}
