"""Where a search parameter looks: its expression as routes through the JSON of a resource.

1,514 of R4's 1,769 expression alternatives are bare paths, and nearly all others are a path with one filter or cast;
these become routes, walked in one pass over the resource. What remains is left to FHIRPath.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from profiles import model


@dataclass(frozen=True, slots=True)
class Test:
    """What an element must be for a route to go through it: equals, differs, first, extension or has-extension."""

    how: str
    name: str = ""
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """One JSON property on the way and the tests its elements must pass; `element` is its name without the type."""

    name: str
    tests: tuple[Test, ...] = ()
    element: str = ""


@dataclass(frozen=True, slots=True)
class Route:
    """Steps from the root to values of the FHIR type `type`; `single` where at most one value can be there."""

    steps: tuple[Step, ...]
    type: str
    single: bool = True
    value_set: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """One alternative of an expression: its short name within the type, its routes, and the types it may refer to.

    `expression` is set, and routes empty, where only FHIRPath can tell.
    """

    name: str
    routes: tuple[Route, ...]
    refers: tuple[str, ...] = ()
    expression: str = ""


_CALLS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\.where\(resolve\(\) is (\w+)\)"), "refers"),
    (re.compile(r"\.where\((\w+) ?= ?'([^']*)'\)"), "equals"),
    (re.compile(r"\.where\(hasExtension\('([^']*)'\)\)"), "has-extension"),
    (re.compile(r"\.extension\('([^']*)'\)"), "extension"),
    (re.compile(r"\.(?:as|ofType)\((\w+)\)"), "as"),
    (re.compile(r" as (\w+)"), "as"),
    (re.compile(r"\[0\]"), "first"),
    (re.compile(r"\.(\w+)(?!\()"), "child"),
)
_FLAG = re.compile(r"(\w+)\.(\w+)\.exists\(\) and \1\.\2 != false")

# Strings inside a datatype that have parameters of their own (`family`, `address-city`, `phone`): the parts are written
# once, each under its own place, and a parameter on the whole asks for all of them.
PARTS: dict[tuple[str, str], tuple[tuple[str, ...], ...]] = {
    ("string", "HumanName"): (("family",), ("given",), ("prefix", "suffix", "text")),
    ("string", "Address"): (("city",), ("state",), ("postalCode",), ("country",), ("line", "district", "text")),
    ("sound", "HumanName"): (("family", "given", "text"),),
}
_SPLIT_BY: dict[tuple[str, str], tuple[str, tuple[str, ...]]] = {
    ("token", "ContactPoint"): ("system", ("phone", "email"))
}


def alternatives(expression: str) -> list[str]:
    """The expression cut at each `|` outside brackets and quotes."""
    found, depth, quoted, start = [], 0, False, 0
    for at, char in enumerate(expression):
        quoted ^= char == "'"
        depth += 0 if quoted else (char in "([") - (char in ")]")
        if char == "|" and not depth and not quoted:
            found.append(expression[start:at].strip())
            start = at + 1
    return [*found, expression[start:].strip()]


def places(expression: str, root: str, kind: str) -> list[Place]:
    """The places of an expression in a resource of type `root`, for a parameter of search type `kind`."""
    found: list[Place] = []
    for text in alternatives(expression):
        place = _place(_bare(text), root)
        if place is not None:
            found += [part for part in _parts(place, kind) if part not in found]
    return found


def relative(expression: str, type_name: str, kind: str) -> list[Place]:
    """The places of a composite's component, seen from an element of the type."""
    found: list[Place] = []
    for text in alternatives(expression):
        place = _walk("." + text.removeprefix("%resource."), type_name, text)
        if place is not None:
            found.append(replace(place, name=text))
    return found


def _bare(text: str) -> str:
    """`(Observation.value as Quantity).x` without its brackets."""
    return re.sub(r"^\(([^()]* as \w+)\)", r"\1", text)


def _place(text: str, root: str) -> Place | None:
    head = re.match(r"\w+", text)
    if head is None or not model.is_a(root, head[0]):
        return _rootless(text, root, head[0] if head else "")
    flag = _FLAG.fullmatch(text)
    if flag:
        return Place(text, (Route((), f"flag:{flag[2]}"),))
    return _walk(text[head.end() :], root, text)


def _rootless(text: str, root: str, head: str) -> Place | None:
    """An alternative that is for other types, or that starts at an element (`InsurancePlan.name | alias` in R4)."""
    if head in model.TYPES:
        return None
    return _walk(f".{text}", root, f"{root}.{text}") if model.element(root, head) else Place(text, (), expression=text)


def _walk(rest: str, type_name: str, text: str) -> Place | None:
    routes = [Route((), type_name)]
    refers: tuple[str, ...] = ()
    while rest:
        how, call = next(((how, m) for pattern, how in _CALLS if (m := pattern.match(rest))), ("", None))
        if call is None:
            return Place(text, (), expression=text)
        if how == "refers":
            refers = (call[1],)
        else:
            routes = [n for route in routes for n in _STEPS[how](route, *call.groups())]
        rest = rest[call.end() :]
    return Place(_name(text), tuple(routes), refers) if routes else None


def _name(text: str) -> str:
    """The place without its root type, and without the type filter of a reference: aliases share it."""
    text = re.sub(r"\.where\(resolve\(\) is \w+\)", "", text)
    text = re.sub(r" as (\w+)|\.(?:as|ofType)\((\w+)\)", lambda m: f":{m[1] or m[2]}", text)
    return text.partition(".")[2] if "." in text else text


def _child(route: Route, name: str) -> Iterator[Route]:
    element = model.element(route.type, name)
    if element is None:
        return
    single = route.single and element.max == 1
    for kind in element.types or ("",):
        step = Step(model.choice_name(name, kind) if element.is_choice else name, (), name)
        bound = element.binding.value_set if element.binding and element.binding.strength == "required" else ""
        yield Route((*route.steps, step), model.content_type(element, kind), single, bound)


def _as(route: Route, type_name: str) -> Iterator[Route]:
    if _same(route.type, type_name):
        yield route


def _same(found: str, wanted: str) -> bool:
    """R4 writes DateTime for dateTime in one expression, and Quantity also means its profiles such as Age."""
    return found.lower() == wanted.lower() or model.is_a(found, wanted)


def _tested(how: str, route: Route, *values: str) -> Iterator[Route]:
    *before, last = route.steps
    name = values[0] if how in ("equals", "differs") else ""
    test = Test(how, name, values[1:] if name else values)
    single = route.single or how == "first"
    yield replace(route, steps=(*before, replace(last, tests=(*last.tests, test))), single=single)


def _extension(route: Route, url: str) -> Iterator[Route]:
    yield Route((*route.steps, Step("extension", (Test("extension", values=(url,)),))), "Extension", single=False)


_STEPS: dict[str, Callable[..., Iterator[Route]]] = {
    "child": _child,
    "as": _as,
    "extension": _extension,
    "equals": lambda route, name, value: _tested("equals", route, name, value),
    "has-extension": lambda route, url: _tested("has-extension", route, url),
    "first": lambda route: _tested("first", route),
}


def _parts(place: Place, kind: str) -> Iterator[Place]:
    """The place, or its parts where the datatype has places of its own inside."""
    whole = {PARTS.get((kind, r.type)) or _SPLIT_BY.get((kind, r.type)) for r in place.routes}
    if len(whole) != 1 or None in whole:
        yield place
    elif (kind, place.routes[0].type) in PARTS:
        for names in PARTS[(kind, place.routes[0].type)]:
            yield _within(place, names)
    else:
        yield from _by_system(place)


def _within(place: Place, names: tuple[str, ...]) -> Place:
    routes = tuple(r for route in place.routes for name in names for r in _child(route, name))
    return Place(f"{place.name}.{'|'.join(names)}", routes)


def _by_system(place: Place) -> Iterator[Place]:
    """A place of contact points as `phone`, `email` and the others."""
    if place.routes[0].steps and place.routes[0].steps[-1].tests:
        yield place
        return
    for value in ("phone", "email"):
        routes = tuple(r for route in place.routes for r in _tested("equals", route, "system", value))
        yield Place(f"{place.name}.where(system='{value}')", routes)
    routes = tuple(r for route in place.routes for r in _tested("differs", route, "system", "phone", "email"))
    yield Place(f"{place.name}.where(system)", routes)
