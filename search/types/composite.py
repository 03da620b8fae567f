"""Composites: the parts come from one element (http://hl7.org/fhir/R4/search.html#combining).

An entry is the key, the texts of the parts, each closed by a separator, then the systems of the parts that are tokens:
`http://loinc.org|8480-6$gt100` and `8480-6$gt100` are the same range, the first with one more look at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

from search.clauses import Between, Body, Clause, OneOf, Resource, after, every, some, starting
from search.filters import KEY
from search.matches import matches
from search.params import COMPONENT, Parameter
from search.places import Place
from search.texts import SEPARATOR, code, system, tokens
from search.types import date, number, quantity, reference, string, token, uri
from search.types.rows import Add, Emit, presence
from search.values import Around, invalid, prefixed, span, split, unescape
from search.walks import at_place

Text = tuple[str, str | None]  # the text of a part, and its system where it is a token

_MODULES: dict[str, Any] = {
    "string": string,
    "number": number,
    "date": date,
    "quantity": quantity,
    "reference": reference,
    "token": token,
    "uri": uri,
}


def part_texts(kind: str, type_name: str, value: Any, base: str) -> list[Text]:
    """The texts of one value of a part."""
    if kind == "token":
        return list(_token_texts(type_name, value))
    maker = _MODULES[kind].EMIT.get(type_name)
    found: list[str] = []
    if maker is not None:
        maker("")(value, found.append, base)
    return [(text, None) for text in found if text]


def _token_texts(type_name: str, value: Any) -> Iterator[Text]:
    maker = token.EMIT.get(type_name)
    found: list[str] = []
    if maker is not None:
        maker("")(value, found.append, "")
    for text in found:
        head, bar, tail = text.partition("|")
        if bar:
            yield head, tail


Parts = tuple[tuple[str, tuple[Place, ...]], ...]


def parts_of(parameter: Parameter) -> Parts:
    """(search type, places) of each component."""
    return tuple((c.type, tuple(a.place for a in c.atoms)) for c in parameter.components)


def emit_composite(key: str, parts: Parts) -> Callable[[Any, Any, Add, str], None]:
    """(element, resource, add, base): the entries of one element; the last part decides first whether there are any."""

    def texts(kind: str, places: tuple[Place, ...], element: Any, root: Any, base: str) -> list[Text]:
        found: list[Text] = []
        for place in places:
            here = root if place.name.startswith("%resource") else element
            for type_name, value in at_place(here, place):
                found += part_texts(kind, type_name, value, base)
        return found

    def emit(element: Any, root: Any, add: Add, base: str) -> None:
        columns: list[list[Text]] = []
        for kind, places in reversed(parts):
            column = texts(kind, places, element, root, base)
            if not column:
                return
            columns.insert(0, column)
        for row in product(*columns):
            add(key + joined(row))

    return emit


def joined(row: tuple[Text, ...]) -> str:
    heads = "".join(text + SEPARATOR for text, _ in row)
    return heads + "".join(SEPARATOR + uri for _, uri in row if uri is not None)


def matches_composite(parameter: Parameter, value: str, around: Around) -> Clause:
    """`a$b`: one element for which every part holds."""
    given = split(value, "$")
    if len(given) != len(parameter.components) or not all(given):
        shape = "$".join(c.code for c in parameter.components)
        raise invalid(f"{value!r} is not {shape}")
    columns = [_part(c, v, around) for c, v in zip(parameter.components, given, strict=True)]
    found = some(_joined(key, row) for key in parameter.keys for row in product(*columns))
    if _is_exact(parameter):
        return found
    wide = some(starting(key + head) for key in parameter.keys for head in _heads(columns))
    return every((wide, _in_body(parameter, given, around)))


def _heads(columns: list[list[Part]]) -> list[str]:
    """The beginnings of entries that the parts which are points leave possible."""
    heads = [""]
    for column in columns:
        if not all(p.point for p in column):
            break
        heads = [head + p.low + SEPARATOR for head in heads for p in column]
    return heads


def _is_exact(parameter: Parameter) -> bool:
    """Whether the parts but the last are points, and none is an interval: then the entry tells everything."""
    kinds = [c.type for c in parameter.components]
    intervals = any(c.value_types & {"Range", "SampledData", "Period"} for c in parameter.components)
    return not intervals and all(k == "token" for k in kinds[:-1])


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of the texts of one part; a `point` is one text; `system` is a token's, None is any."""

    low: str
    high: str
    point: bool = False
    coded: bool = False
    system: str | None = None
    parts: tuple[str, ...] = ()


def _joined(key: str, row: tuple[Part, ...]) -> Clause:
    """One entry, or one stretch of entries, for a choice of one stretch per part."""
    *before, last = row
    head = key + "".join(p.low + SEPARATOR for p in before) + last.low
    low, high = (head + SEPARATOR, head + " ") if last.point else (head, head[: -len(last.low)] + last.high)
    tails = [p.system for p in row if p.coded]
    if None in tails:
        parts = tuple(SEPARATOR + t + SEPARATOR for t in tails[:-1] if t is not None)
        return Between(low, high, (*last.parts, *parts), SEPARATOR + tails[-1] if tails[-1] is not None else "")
    tail = "".join(SEPARATOR + t for t in tails if t is not None)
    return OneOf((low + tail,)) if last.point else Between(low, high, last.parts, SEPARATOR + tail)


def _part(component: Parameter, value: str, around: Around) -> list[Part]:
    return PARTS[component.type](component, value, around)


def _token_part(component: Parameter, value: str, around: Around) -> list[Part]:
    pieces = [unescape(p) for p in split(value, "|")]
    if len(pieces) > 2 or not pieces[-1]:
        raise invalid(f"{value!r} is not a token: code, system|code or |code")
    if len(pieces) == 1:
        return [Part(form, form, True, True) for form in tokens(pieces[0])]
    text = code(pieces[1], pieces[0])
    return [Part(text, text, True, True, system(pieces[0]))]


def _quantity_part(component: Parameter, value: str, around: Around) -> list[Part]:
    return [Part(s.low, s.high, parts=s.parts) for s in quantity.stretches(value)]


def _number_part(component: Parameter, value: str, around: Around) -> list[Part]:
    return [Part(a, b) for a, b in number.bounds(*number.asked(unescape(value)))]


def _date_part(component: Parameter, value: str, around: Around) -> list[Part]:
    prefix, text = prefixed(unescape(value))
    asked = span(text)
    fuzz = date.fuzziness(asked, around.now)
    return [Part(a, b) for a, b in date.points(prefix, asked, fuzz) if a < b]


def _string_part(component: Parameter, value: str, around: Around) -> list[Part]:
    text = string.folded(value)[: string.KEPT]
    return [Part(text, after(text))]


def _reference_part(component: Parameter, value: str, around: Around) -> list[Part]:
    clause = reference.refers_to(component, value, around)
    texts = clause.texts if isinstance(clause, OneOf) else ()
    return [Part(text[KEY:], text[KEY:], True) for text in texts]


PARTS: dict[str, Callable[[Parameter, str, Around], list[Part]]] = {
    "token": _token_part,
    "quantity": _quantity_part,
    "number": _number_part,
    "date": _date_part,
    "string": _string_part,
    "reference": _reference_part,
}


def _in_body(parameter: Parameter, given: list[str], around: Around) -> Body:
    """Each element looked at by itself, its parts read as if they were resources of their own."""

    def check(resource: Resource) -> bool:
        elements = (e for a in parameter.atoms for _, e in at_place(resource, a.place))
        return any(_element_holds(parameter, given, e, resource, around) for e in elements)

    return Body(check, parameter.code)


def _element_holds(parameter: Parameter, given: list[str], element: Any, root: Resource, around: Around) -> bool:
    return all(_part_holds(c, v, element, root, around) for c, v in zip(parameter.components, given, strict=True))


def _part_holds(component: Parameter, value: str, element: Any, root: Resource, around: Around) -> bool:
    """One part on one element: the element is taken for a resource, and the part for a parameter of it."""
    found: set[str] = set()
    here = element
    for atom in component.atoms:
        here = root if atom.place.name.startswith("%resource") else element
        for type_name, inner in at_place(here, atom.place):
            _MODULES[component.type].EMIT.get(type_name, presence)(COMPONENT)(inner, found.add, around.base)
    return matches(_MODULES[component.type].MATCH[""](component, value, around), sorted(found), here)


EMIT: dict[str, Callable[[str], Emit]] = {}
MATCH = {"": matches_composite}
