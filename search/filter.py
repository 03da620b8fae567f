"""`_filter`: expressions over search parameters (http://hl7.org/fhir/R4/search_filter.html).

filter = paramExp | "(" filter ")" | "not" "(" filter ")" | filter ("and" | "or") filter
paramExp = path op value        path = name ("." name)*, a name may carry "[" filter "]"

`and` and `or` are read from left to right, neither before the other, as the specification has it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass

from profiles.outcome import FhirError
from search.clauses import Clause, every, some, without
from search.criteria import DEEPEST as MOST_HOPS
from search.criteria import Criteria
from search.operators import OPERATORS, OWN, coded, escaped
from search.values import invalid

LONGEST, DEEPEST = 4_000, 80
_TOKEN = re.compile(r'\s*([()\[\].]|[^\s()\[\]"]+)')
_VALUE = re.compile(r'\s*("(?:[^"\\]|\\.)*"|[^\s)\]"][^\s)\]]*)')
PATH = re.compile(r"[A-Za-z_][\w\-:]*(?:\.[A-Za-z_][\w\-:]*)*")


@dataclass(slots=True)
class Reader:
    """One expression while it is read."""

    criteria: Criteria
    text: str
    at: int = 0
    depth: int = 0
    hops: int = 0

    def peek(self) -> str:
        """The next word or bracket, empty at the end."""
        found = _TOKEN.match(self.text, self.at)
        return found[1] if found else self.text[self.at :].strip()[:20]

    def take(self, wanted: str = "") -> str:
        found = _TOKEN.match(self.text, self.at)
        if found is None or (wanted and found[1] != wanted):
            rest = self.text[self.at :].strip()[:20]
            raise invalid(f"_filter: {wanted or 'more'} expected {'before ' + rest if rest else 'at the end'}")
        self.at = found.end()
        return found[1]

    def value(self) -> str:
        """A JSON string, or all up to a space or a closing bracket."""
        found = _VALUE.match(self.text, self.at)
        if found is None:
            rest = self.text[self.at :].strip()[:20]
            raise invalid(f"_filter: {rest!r} is not understood" if rest else "_filter: more expected at the end")
        self.at = found.end()
        if found[1][0] != '"':
            return found[1]
        try:
            return str(json.loads(found[1], strict=False))
        except ValueError:
            raise invalid(f"_filter: {found[1][:20]} is not a JSON string") from None

    def whole(self, type_name: str | None) -> Clause:
        """Filters joined by `and` and `or`, the first two first."""
        found = self.one(type_name)
        while (word := self.peek().lower()) in JOINED:
            self.take()
            found = JOINED[word]((found, self.one(type_name)))
        return found

    def one(self, type_name: str | None) -> Clause:
        self.depth += 1
        if self.depth > DEEPEST:
            raise FhirError("too-costly", "_filter: brackets go too deep")
        negative = self.peek().lower() == "not"
        if negative:
            self.take()
        if self.peek() == "(":
            self.take("(")
            found = self.whole(type_name)
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
        if (type_name, path) in PAIRED and self.peek() == "[":
            return self.paired(type_name, *PAIRED[type_name, path])
        *heads, last = path.split(".")
        return self.along(type_name, heads, last)

    def along(self, type_name: str | None, heads: list[str], last: str) -> Clause:
        if heads:
            return self.linked(type_name, heads[0], lambda target: self.along(target, heads[1:], last))
        if self.peek() == "[":
            return self.bracketed(type_name, last)
        if last.startswith("_has:"):
            self.hops = self._hop()
            found = self.criteria.has(
                (type_name,) if type_name else (), last, lambda source, rest: self.along(source, [], rest)
            )
            self.hops -= 1
            return found
        return self.compared(type_name, last)

    def paired(self, type_name: str | None, code: str, names: tuple[str, ...]) -> Clause:
        """`characteristic[code eq x].value eq y`: both of the same element, which is what a composite finds."""
        found: dict[str, str] = {}
        self.take("[")
        self.part(found, names)
        self.take("]")
        self.take(".")
        self.part(found, names)
        if len(found) < 2:
            raise invalid(f"_filter: {' and '.join(names)} are both needed, one inside the brackets and one after them")
        return self.criteria.clause(type_name, code, "$".join(escaped(coded(found[name])) for name in names))

    def part(self, found: dict[str, str], names: tuple[str, ...]) -> None:
        name, operator = self.take(), self.take()
        if name not in names or operator not in ("eq", "re"):
            raise invalid(f"_filter: here {' or '.join(names)} can be compared by eq, not {name} by {operator}")
        found[name] = self.value()

    def bracketed(self, type_name: str | None, code: str) -> Clause:
        """`subject[name eq x].birthdate gt y`: both of the same resource."""

        def inner(target: str | None) -> Clause:
            self.take("[")
            found = self.whole(target)
            self.take("]")
            self.take(".")
            return every((found, self.expression(target)))

        return self.linked(type_name, code, inner)

    def linked(self, type_name: str | None, head: str, inner: Callable[[str | None], Clause]) -> Clause:
        """A chain: the rest is read for every type the reference may be to."""
        start, depth, hops = self.at, self.depth, self._hop()
        found: list[Clause] = []
        first: FhirError | None = None
        end = start
        for parameter, target in self.criteria.targets(type_name, head):
            self.at, self.depth, self.hops = start, depth, hops
            try:
                where = inner(target)
            except FhirError as error:
                if error.code == "too-costly":
                    raise
                first = first or error
            else:
                end = self.at
                found += self.criteria.steps(parameter, target, where)
        if not found:
            raise first or invalid(f"_filter: {head} leads nowhere")
        self.at, self.depth, self.hops = end, depth, hops - 1
        return some(found)

    def _hop(self) -> int:
        """How many links deep the next one is: as deep as a chain outside of a filter may be."""
        if self.hops >= MOST_HOPS:
            raise FhirError("too-costly", f"_filter: chains and _has go at most {MOST_HOPS} levels deep")
        return self.hops + 1

    def compared(self, type_name: str | None, code: str) -> Clause:
        operator = self.take().lower()
        row = OPERATORS.get(operator)
        if row is None:
            raise invalid(f"_filter: unknown operator {operator!r}; one of {', '.join(OPERATORS)}")
        value = self.value()
        if not value:
            raise invalid(f"_filter: {code} {operator} needs a value")
        own = OWN.get("_id" if code == "id" else code)
        if own is not None:
            return own(self.criteria, type_name, operator, value)
        return row(self.criteria, self.criteria.parameter(type_name, code), value)


JOINED: dict[str, Callable[[tuple[Clause, Clause]], Clause]] = {"and": every, "or": some}
# "Additional Parameters": the names inside an element, and the composite that finds them together.
PAIRED: dict[tuple[str | None, str], tuple[str, tuple[str, ...]]] = {
    ("Group", "characteristic"): ("characteristic-value", ("code", "value")),
    ("DocumentReference", "relatesTo"): ("relationship", ("target", "code")),
}


def filter_clause(criteria: Criteria, type_name: str | None, text: str) -> Clause:
    """The clause of a `_filter`; FhirError `invalid` names what was expected where."""
    if len(text) > LONGEST:
        raise FhirError("too-costly", f"_filter: at most {LONGEST:,} characters")
    reader = Reader(criteria, text)
    found = reader.whole(type_name)
    if reader.peek():
        raise invalid(f"_filter: {reader.peek()!r} is not understood here")
    return found
