"""`_filter`: expressions over search parameters (http://hl7.org/fhir/R4/search_filter.html).

filter = paramExp | "(" filter ")" | "not" "(" filter ")" | filter ("and" | "or") filter
paramExp = path op value        path = name ("." name)*, a name may carry "[" filter "]"
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from profiles.outcome import FhirError
from search.clauses import Between, Clause, OneOf, Some, after, every, some, starting, without
from search.params import Parameter
from search.texts import cut, fold
from search.types import MATCH, missing
from search.types.date import periods, points
from search.values import invalid, prefixed, span

if TYPE_CHECKING:
    from search.criteria import Criteria

LONGEST, DEEPEST = 4_000, 20
_TOKEN = re.compile(r'\s*(?:("(?:[^"\\]|\\.)*")|([()\[\].])|([^\s()\[\]"]+))')
PATH = re.compile(r"[A-Za-z_][\w\-:]*(?:\.[A-Za-z_][\w\-:]*)*")


@dataclass(slots=True)
class Reader:
    """One expression while it is read."""

    criteria: Criteria
    tokens: list[str]
    at: int = 0
    depth: int = 0

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self, wanted: str = "") -> str:
        token = self.peek()
        if not token or (wanted and token != wanted):
            raise invalid(f"_filter: {wanted or 'more'} expected {'before ' + token if token else 'at the end'}")
        self.at += 1
        return token

    def either(self, type_name: str | None) -> Clause:
        found = [self.both(type_name)]
        while self.peek().lower() == "or":
            self.at += 1
            found.append(self.both(type_name))
        return some(found)

    def both(self, type_name: str | None) -> Clause:
        found = [self.one(type_name)]
        while self.peek().lower() == "and":
            self.at += 1
            found.append(self.one(type_name))
        return every(found)

    def one(self, type_name: str | None) -> Clause:
        self.depth += 1
        if self.depth > DEEPEST * 4:
            raise FhirError("too-costly", "_filter: brackets go too deep")
        negative = self.peek().lower() == "not"
        if negative:
            self.at += 1
        if self.peek() == "(":
            self.take("(")
            found = self.either(type_name)
            self.take(")")
        elif negative:
            raise invalid("_filter: not is followed by a bracket")
        else:
            found = self.expression(type_name)
        self.depth -= 1
        return without(found) if negative else found

    def expression(self, type_name: str | None) -> Clause:
        """`path op value`."""
        path = self.take()
        if not PATH.fullmatch(path):
            raise invalid(f"_filter: {path!r} is not a parameter")
        *heads, last = path.split(".")
        return self.along(type_name, heads, last)

    def along(self, type_name: str | None, heads: list[str], last: str) -> Clause:
        if heads:
            return self.linked(type_name, heads[0], lambda target: self.along(target, heads[1:], last))
        if self.peek() == "[":
            return self.bracketed(type_name, last)
        return self.compared(type_name, last)

    def bracketed(self, type_name: str | None, code: str) -> Clause:
        """`subject[name eq x].birthdate gt y`: both of the same resource."""

        def inner(target: str | None) -> Clause:
            self.take("[")
            found = self.either(target)
            self.take("]")
            self.take(".")
            return every((found, self.expression(target)))

        return self.linked(type_name, code, inner)

    def linked(self, type_name: str | None, head: str, inner: Callable[[str | None], Clause]) -> Clause:
        """A chain: the rest is read for every type the reference may be to."""
        code, _, kind = head.partition(":")
        start = self.at
        found: list[Clause] = []
        first: FhirError | None = None
        end = start
        for parameter, target in self.criteria.targets(type_name, code, kind):
            self.at = start
            try:
                where = inner(target)
            except FhirError as error:
                first = first or error
            else:
                end = self.at
                found += self.criteria.steps(parameter, target, where)
        if not found:
            raise first or invalid(f"_filter: {head} leads nowhere")
        self.at = end
        return some(found)

    def compared(self, type_name: str | None, code: str) -> Clause:
        operator = self.take().lower()
        row = OPERATORS.get(operator)
        if row is None:
            raise invalid(f"_filter: unknown operator {operator!r}; one of {', '.join(OPERATORS)}")
        token = self.take()
        value = token[1:-1].replace('\\"', '"').replace("\\\\", "\\") if token[:1] == '"' else token
        if code in ("_id", "_lastUpdated"):
            return self.criteria.clause(type_name, code, value if operator == "eq" else f"{operator}{value}")
        return row(self.criteria, self.criteria.parameter(type_name, code), value)


Row = Callable[["Criteria", Parameter, str], Clause]


def escaped(value: str) -> str:
    """A value as MATCH reads it: a comma or a dollar sign in it is itself."""
    return re.sub(r"([,$])", r"\\\1", value)


def by_prefix(prefix: str) -> Row:
    def row(criteria: Criteria, parameter: Parameter, value: str) -> Clause:
        if parameter.type not in ("date", "number", "quantity"):
            raise invalid(
                f"_filter: {prefix} compares dates, numbers and quantities; {parameter.code} is a {parameter.type}"
            )
        return MATCH[(parameter.type, "")](parameter, prefix + escaped(value), criteria.around)

    return row


def equal(criteria: Criteria, parameter: Parameter, value: str) -> Clause:
    """`eq`: a string is the whole field, case and accents aside."""
    if parameter.type == "string":
        return OneOf(tuple(key + cut(fold(value)) for key in parameter.keys))
    return MATCH[(parameter.type, "")](parameter, escaped(value), criteria.around)


def unequal(criteria: Criteria, parameter: Parameter, value: str) -> Clause:
    """`ne`: some value is another one."""
    if parameter.type in ("date", "number", "quantity"):
        return by_prefix("ne")(criteria, parameter, value)
    return some(c for key in parameter.keys for c in others(key, equal(criteria, parameter, value)))


def others(key: str, clause: Clause) -> list[Clause]:
    """The stretches of a key's entries that a clause of texts and stretches leaves out."""
    parts = clause.clauses if isinstance(clause, Some) else (clause,)
    holes = sorted(h for p in parts for h in _holes(p) if h[0].startswith(key))
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


def strings_only(how: str) -> Row:
    def row(criteria: Criteria, parameter: Parameter, value: str) -> Clause:
        if parameter.type not in ("string", "uri", "token"):
            raise invalid(f"_filter: {how} compares strings; {parameter.code} is a {parameter.type}")
        text = value if parameter.type == "uri" else fold(value)
        if not text:
            raise invalid(f"_filter: {how} needs a text")
        tail = "|" if parameter.type == "token" else ""
        return some(STRINGS[how](key, text, tail) for key in parameter.keys)

    return row


STRINGS: dict[str, Callable[[str, str, str], Clause]] = {
    "co": lambda key, text, bar: Between(key, after(key), parts=(text,)),
    "sw": lambda key, text, bar: starting(key + text),
    "ew": lambda key, text, bar: Between(key, after(key), parts=(text + bar,) if bar else (), tail="" if bar else text),
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
        return match(parameter, escaped(value), criteria.around)

    return row


def refers(criteria: Criteria, parameter: Parameter, value: str) -> Clause:
    """`re`: a reference to the resource."""
    if parameter.type != "reference":
        raise invalid(f"_filter: re compares a reference; {parameter.code} is a {parameter.type}")
    return MATCH[("reference", "")](parameter, escaped(value), criteria.around)


OPERATORS: dict[str, Row] = {
    "eq": equal,
    "ne": unequal,
    "co": strings_only("co"),
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


def filter_clause(criteria: Criteria, type_name: str | None, text: str) -> Clause:
    """The clause of a `_filter`; FhirError `invalid` names what was expected where."""
    if len(text) > LONGEST:
        raise FhirError("too-costly", f"_filter: at most {LONGEST:,} characters")
    tokens, at = [], 0
    while text[at:].strip():
        found = _TOKEN.match(text, at)
        if found is None:
            raise invalid(f"_filter: {text[at : at + 20]!r} is not understood")
        tokens.append(found[1] or found[2] or found[3])
        at = found.end()
    reader = Reader(criteria, tokens)
    found_clause = reader.either(type_name)
    if reader.peek():
        raise invalid(f"_filter: {reader.peek()!r} is not understood here")
    return found_clause
