"""Criteria that are no values of elements, one row each: `_id`, `_lastUpdated`, `_list`, `_filter`, `_text` ..."""

from __future__ import annotations

from profiles import model
from profiles.outcome import FhirError
from search.clauses import ALWAYS, NEVER, Clause, Ids, Listed, Updated, every, some, without
from search.criteria import Criteria, Special
from search.filter import filter_clause
from search.types.date import fuzziness, matches_updated
from search.values import Around, invalid, prefixed, span, split, unescape
from search.words import words_clause


def _id(criteria: Criteria, type_name: str | None, modifier: str, value: str) -> Clause:
    """`_id`: the name of the document."""
    if modifier == "missing":
        return NEVER if value == "true" else ALWAYS
    if modifier not in ("", "not"):
        raise FhirError("invalid", f"_id has no modifier {modifier!r}; known are missing, not")
    ids = [unescape(v).removeprefix(f"{type_name}/") for v in split(value, ",")]
    types = [type_name] if type_name else sorted(model.RESOURCE_TYPES)
    found = Ids(tuple(f"{t}/{i}" for t in types for i in ids))
    return without(found) if modifier else found


def _last_updated(criteria: Criteria, type_name: str | None, modifier: str, value: str) -> Clause:
    """`_lastUpdated`: the instant beside the document."""
    if modifier == "missing":
        return NEVER if value == "true" else ALWAYS
    if modifier:
        raise FhirError("invalid", f"_lastUpdated has no modifier {modifier!r}; the only one is missing")
    found: list[Clause] = []
    for text in split(value, ","):
        prefix, rest = prefixed(unescape(text))
        asked = span(rest)
        fuzz = fuzziness(asked, criteria.around.now)
        found += [Updated(low, high) for low, high in matches_updated(prefix, asked, fuzz)]
    return some(found)


def _words(name: str) -> Special:
    def read(criteria: Criteria, type_name: str | None, modifier: str, value: str) -> Clause:
        _unmodified(name, modifier)
        return some(words_clause(name, unescape(part), type_name) for part in _alternatives(value))

    return read


def _alternatives(value: str) -> list[str]:
    """The values between the commas; a comma between quotes is text."""
    found: list[str] = []
    for part in split(value, ","):
        if found and found[-1].count('"') % 2:
            found[-1] += f",{part}"
        else:
            found.append(part)
    return found


def _filter(criteria: Criteria, type_name: str | None, modifier: str, value: str) -> Clause:
    _unmodified("_filter", modifier)
    return filter_clause(criteria, type_name, value)


def _list(criteria: Criteria, type_name: str | None, modifier: str, value: str) -> Clause:
    """`_list`: the resource is an item of the List."""
    _unmodified("_list", modifier)
    names = [unescape(v).removeprefix("List/") for v in split(value, ",")]
    if not all(names):
        raise invalid("_list: an id of a List between the commas is empty")
    stored = [Listed((), "list", f"List/{name}", type_name or "") for name in names if name[0] != "$"]
    return some([*stored, *(_named(criteria, "_list", LISTS, type_name, n) for n in names if n[0] == "$")])


def _query(criteria: Criteria, type_name: str | None, modifier: str, value: str) -> Clause:
    """`_query`: a query that has a name."""
    _unmodified("_query", modifier)
    return _named(criteria, "_query", QUERIES, type_name, value)


def _named(criteria: Criteria, what: str, table: Named, type_name: str | None, name: str) -> Clause:
    """The parameters that a name of the table stands for on the type."""
    row = table.get((type_name or "", name))
    if row is None:
        known = sorted(f"{name} on {kind}" for kind, name in table)
        raise FhirError("not-supported", f"{what}: nothing is named {name!r} here; known are {', '.join(known)}")
    return every(criteria.clause(type_name, code, text) for code, text in row)


def _unmodified(name: str, modifier: str) -> None:
    if modifier:
        raise FhirError("invalid", f"{name} has no modifier {modifier!r}")


# (type, name) -> the parameters that the name stands for; operations add theirs here.
Named = dict[tuple[str, str], tuple[tuple[str, str], ...]]
QUERIES: Named = {
    ("Patient", "current"): (("active:not", "false"), ("deceased", "false")),
    ("Condition", "problem-list"): (
        ("category", "problem-list-item"),
        ("clinical-status", "active,recurrence,relapse"),
    ),
    ("MedicationRequest", "current"): (("status", "active,on-hold"),),
}
_ALLERGIES = (("clinical-status", "active"), ("verification-status:not", "refuted,entered-in-error"))
# Functional lists: what is current, whoever keeps it (http://hl7.org/fhir/R4/lifecycle.html#current).
LISTS: Named = {
    ("AllergyIntolerance", "$current-allergies"): _ALLERGIES,
    ("AllergyIntolerance", "$current-drug-allergies"): (*_ALLERGIES, ("category", "medication")),
    ("Condition", "$current-problems"): (
        ("clinical-status", "active,recurrence,relapse"),
        ("verification-status:not", "refuted,entered-in-error"),
    ),
    ("MedicationRequest", "$current-medications"): (("status", "active,on-hold"),),
    ("MedicationStatement", "$current-medications"): (("status", "active,intended,on-hold"),),
}
SPECIALS: dict[str, Special] = {
    "_id": _id,
    "_lastUpdated": _last_updated,
    "_text": _words("_text"),
    "_content": _words("_content"),
    "_filter": _filter,
    "_list": _list,
    "_query": _query,
}


def criteria_of(around: Around) -> Criteria:
    """The reader of parameters, with those of this table."""
    return Criteria(around, SPECIALS)
