"""The operators of `_filter` (http://hl7.org/fhir/R4/search_filter.html#ops): one row each."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from search.clauses import Between, Clause, OneOf, Some, after, every, some, starting, without
from search.criteria import Criteria
from search.params import Parameter
from search.texts import EPOCH, LAST, code_forms, cut, loose, precision
from search.types import MATCH, missing
from search.types.date import periods, points
from search.types.string import KEPT, LONG
from search.values import PREFIXES, decimal, invalid, prefixed, span, split
from search.walks import holds

Row = Callable[["Criteria", Parameter, str], Clause]
# "Predefined" names of code systems.
SYSTEMS = {
    "loinc": "http://loinc.org",
    "snomed": "http://snomed.info/sct",
    "rxnorm": "http://www.nlm.nih.gov/research/umls/rxnorm",
    "ucum": "http://unitsofmeasure.org",
}


_SYSTEM = re.compile(rf"(^|\|)({'|'.join(SYSTEMS)})(?=\|)")


def escaped(value: str) -> str:
    """A value as MATCH reads it: a comma or a dollar sign in it is itself."""
    return re.sub(r"([,$])", r"\\\1", value)


def coded(value: str) -> str:
    """`loinc|1234-5` and `5|ucum|mg` with the code system written out."""
    return _SYSTEM.sub(lambda found: found[1] + SYSTEMS[found[2]], value)


def _by_id(criteria: Criteria, type_name: str | None, operator: str, value: str) -> Clause:
    if operator not in ("eq", "ne"):
        raise invalid(f"_filter: _id is compared by eq or ne, not {operator}")
    found = criteria.clause(type_name, "_id", escaped(value))
    return found if operator == "eq" else without(found)


def _by_update(criteria: Criteria, type_name: str | None, operator: str, value: str) -> Clause:
    if operator not in PREFIXES:
        raise invalid(f"_filter: _lastUpdated is compared by {', '.join(PREFIXES)}, not {operator}")
    return criteria.clause(type_name, "_lastUpdated", f"{operator}{value}")


# What is no entry but stands beside the document.
OWN: dict[str, Callable[[Criteria, str | None, str, str], Clause]] = {"_id": _by_id, "_lastUpdated": _by_update}


def by_prefix(prefix: str) -> Row:
    def row(criteria: Criteria, parameter: Parameter, value: str) -> Clause:
        if parameter.type == "string" and prefix in BESIDE:
            return some(Between(*BESIDE[prefix](key, loose(value)[:KEPT])) for key in parameter.keys)
        if parameter.type not in ("date", "number", "quantity"):
            raise invalid(
                f"_filter: {prefix} compares dates, numbers and quantities; {parameter.code} is a {parameter.type}"
            )
        return MATCH[(parameter.type, "")](parameter, prefix + escaped(coded(value)), criteria.around)

    return row


# Strings in the order of their characters, case and accents aside; the mark of a long text comes before all of them.
BESIDE: dict[str, Callable[[str, str], tuple[str, str]]] = {
    "gt": lambda key, text: (key + text + "\x00", after(key)),
    "ge": lambda key, text: (key + text, after(key)),
    "lt": lambda key, text: (key + " ", key + text),
    "le": lambda key, text: (key + " ", key + text + "\x00"),
}


def equal(criteria: Criteria, parameter: Parameter, value: str) -> Clause:
    """`eq`: a string is the whole field, case and accents aside."""
    if parameter.type == "string":
        return OneOf(tuple(key + cut(loose(value)) for key in parameter.keys))
    if parameter.type == "composite":
        text = "$".join(coded(part).replace(",", r"\,") for part in split(value, "$"))
    else:
        text = escaped(coded(value))
    return MATCH[(parameter.type, "")](parameter, text, criteria.around)


def unequal(criteria: Criteria, parameter: Parameter, value: str) -> Clause:
    """`ne`: some value is another one."""
    if parameter.type in ("date", "number", "quantity"):
        return by_prefix("ne")(criteria, parameter, value)
    return some(c for key in parameter.keys for c in others(key, equal(criteria, parameter, value)))


def others(key: str, clause: Clause) -> list[Clause]:
    """The stretches of a key's entries that a clause of texts and stretches leaves out."""
    parts = clause.clauses if isinstance(clause, Some) else (clause,)
    marks = [OneOf((key, key + LONG))]  # of a value without a text, and of a long one: neither is a value
    holes = sorted(h for p in (*parts, *marks) for h in _holes(p) if h[0].startswith(key))
    low, found = key, []
    for start, end in holes:
        if low < start:
            found.append(Between(low, start))
        low = max(low, end)
    return [*found, Between(low, after(key))]


def _holes(clause: Clause) -> list[tuple[str, str]]:
    if isinstance(clause, OneOf):
        return [(t, t + "\x00") for t in clause.texts]
    return [(clause.low, clause.high)] if isinstance(clause, Between) and not clause.tail else []


def includes(criteria: Criteria, parameter: Parameter, value: str) -> Clause:
    """`co`: the text is in a string, the number or date is within what a value, as exact as it is written, may mean."""
    if parameter.type not in WITHIN:
        return strings_only("co")(criteria, parameter, value)
    inside = WITHIN[parameter.type](value)
    candidates = some(starting(key) for key in parameter.keys)
    return every((candidates, holds(parameter, f"co {value}", inside)))


def _within_number(value: str) -> Callable[[Any], bool]:
    asked = decimal(value)
    return lambda found: isinstance(found, Decimal | int) and abs(asked - found) <= precision(Decimal(found))


def _within_date(value: str) -> Callable[[Any], bool]:
    asked = span(value)

    def inside(found: Any) -> bool:
        if isinstance(found, str):
            low, high = span(found).low, span(found).high
        elif isinstance(found, dict) and {"start", "end"} & set(found):
            low = span(found["start"]).low if "start" in found else -EPOCH
            high = span(found["end"]).high if "end" in found else LAST
        else:
            return False
        return low <= asked.low and asked.high <= high

    return inside


WITHIN: dict[str, Callable[[str], Callable[[Any], bool]]] = {"number": _within_number, "date": _within_date}


def strings_only(how: str) -> Row:
    def row(criteria: Criteria, parameter: Parameter, value: str) -> Clause:
        if parameter.type == "string" and how in IN_STRINGS:
            return MATCH["string", IN_STRINGS[how]](parameter, escaped(value).replace("|", "\\|"), criteria.around)
        if parameter.type not in FORMS:
            raise invalid(f"_filter: {how} compares strings; {parameter.code} is a {parameter.type}")
        texts = FORMS[parameter.type](value)
        if not all(texts):
            raise invalid(f"_filter: {how} needs a text")
        rows = IN_CODES if parameter.type == "token" else STRINGS
        found = [rows[how](key, text) for key in parameter.keys for text in texts]
        if parameter.type == "string":  # one that was cut has another end
            cuts = OneOf(tuple(key + LONG for key in parameter.keys))
            found.append(every((cuts, holds(parameter, f"{how} {value!r}", lambda v: loose(v).endswith(texts)))))
        return some(found)

    return row


IN_STRINGS = {"co": "contains", "sw": ""}
# What a text may look like in an entry.
FORMS: dict[str, Callable[[str], tuple[str, ...]]] = {
    "string": lambda value: (loose(value),),
    "uri": lambda value: (value,),
    "token": code_forms,
}
STRINGS: dict[str, Callable[[str, str], Clause]] = {
    "co": lambda key, text: Between(key, after(key), parts=(text,)),
    "sw": lambda key, text: starting(key + text),
    "ew": lambda key, text: Between(key, after(key), tail=text),
}
# The same within `code|system`, where only the code is looked at.
IN_CODES: dict[str, Callable[[str, str], Clause]] = STRINGS | {
    "co": lambda key, text: Between(key, after(key), parts=(text, "|")),
    "ew": lambda key, text: Between(key, after(key), parts=(f"{text}|",)),
}


def present(criteria: Criteria, parameter: Parameter, value: str) -> Clause:
    """`pr true`: there is a value."""
    if value not in ("true", "false"):
        raise invalid(f"_filter: pr is followed by true or false, not {value!r}")
    return missing(parameter, "false" if value == "true" else "true", criteria.around)


def overlaps(criteria: Criteria, parameter: Parameter, value: str) -> Clause:
    """`po`: the time of the value and that of the query overlap."""
    prefix, text = prefixed(value)
    if parameter.type != "date" or prefix != "eq":
        raise invalid("_filter: po compares a date parameter with a date")
    asked = span(text)
    found: list[Clause] = []
    for key in parameter.keys:
        found += [Between(key + a, key + b) for a, b in points("ap", asked, 0) if a < b]
        for mark, low, high, within in periods("ap", asked, 0, len(key) + 10):
            found.append(Between(key + mark + low, key + mark + high, within=within))
    return some(found)


def modified(modifier: str, kind: str) -> Row:
    def row(criteria: Criteria, parameter: Parameter, value: str) -> Clause:
        match = MATCH.get((parameter.type, modifier))
        if match is None or parameter.type not in (kind, "reference", "uri"):
            raise invalid(f"_filter: this operator compares a {kind}; {parameter.code} is a {parameter.type}")
        return match(parameter, escaped(coded(value)), criteria.around)

    return row


def refers(criteria: Criteria, parameter: Parameter, value: str) -> Clause:
    """`re`: a reference to the resource."""
    if parameter.type != "reference":
        raise invalid(f"_filter: re compares a reference; {parameter.code} is a {parameter.type}")
    return MATCH[("reference", "")](parameter, escaped(value), criteria.around)


OPERATORS: dict[str, Row] = {
    "eq": equal,
    "ne": unequal,
    "co": includes,
    "sw": strings_only("sw"),
    "ew": strings_only("ew"),
    "gt": by_prefix("gt"),
    "lt": by_prefix("lt"),
    "ge": by_prefix("ge"),
    "le": by_prefix("le"),
    "ap": by_prefix("ap"),
    "sa": by_prefix("sa"),
    "eb": by_prefix("eb"),
    "pr": present,
    "po": overlaps,
    "ss": modified("below", "token"),
    "sb": modified("above", "token"),
    "in": modified("in", "token"),
    "ni": modified("not-in", "token"),
    "re": refers,
}
