"""Injected faults: every one is found, at its place, wherever in an example it is put."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from profiles import model
from profiles.validate import check
from profiles.validate.explain import resource_faults
from profiles.validate.fast import surely_valid
from tests import official

Place = tuple[dict[str, Any], str, str, model.Field]  # (parent object, property, path of the element, its field)


def places(value: dict[str, Any], type_name: str, path: str) -> Iterator[Place]:
    """Every property of a resource and of what is in it."""
    for key, item in list(value.items()):
        field = model.field(type_name, key)
        if field is None:
            continue
        place = f"{path}.{field.element.name}"
        yield value, key, place, field
        for index, inner in enumerate(item) if isinstance(item, list) else ((None, item),):
            if isinstance(inner, dict):
                inside = place if index is None else f"{place}[{index}]"
                yield from places(inner, inner["resourceType"] if field.type == "Resource" else field.type, inside)


def first(parent: dict[str, Any], key: str, new: Any, field: model.Field) -> None:
    """Put a value in the place of the first one."""
    if field.element.max == 1:
        parent[key] = new
    else:
        parent[key][0] = new


def missing(parent: dict[str, Any], key: str, field: model.Field) -> bool:
    if not field.element.min or "_" + key in parent:
        return False
    del parent[key]
    return True


def too_many(parent: dict[str, Any], key: str, field: model.Field) -> bool:
    if field.element.max != 1:
        return False
    parent[key] = [parent[key], parent[key]]
    return True


def bad_code(parent: dict[str, Any], key: str, field: model.Field) -> bool:
    binding = field.element.binding
    if not binding or binding.strength != "required" or field.type != "code":
        return False
    if binding.value_set.split("|")[0] not in model.required_codes():
        return False
    first(parent, key, "no-such-code", field)
    return True


def null(parent: dict[str, Any], key: str, field: model.Field) -> bool:
    if "_" + key in parent and field.element.max != 1:
        return False
    first(parent, key, None, field)
    return True


def empty(parent: dict[str, Any], key: str, field: model.Field) -> bool:
    first(parent, key, "" if field.type in model.PRIMITIVES else {}, field)
    return True


def empty_array(parent: dict[str, Any], key: str, field: model.Field) -> bool:
    if field.element.max == 1:
        return False
    parent[key] = []
    return True


def double_choice(parent: dict[str, Any], key: str, field: model.Field) -> bool:
    if not field.element.is_choice:
        return False
    other = next(t for t in field.element.types if model.choice_name(field.element.name, t) != key)
    parent[model.choice_name(field.element.name, other)] = {"id": "x"}
    return True


def impossible_date(parent: dict[str, Any], key: str, field: model.Field) -> bool:
    days = {"date": "2019-02-29", "dateTime": "2019-06-31", "instant": "2019-04-31T00:00:00Z"}
    if field.type not in days:
        return False
    first(parent, key, days[field.type], field)
    return True


def unknown_element(parent: dict[str, Any], key: str, field: model.Field) -> bool:
    parent[key + "X"] = "x"
    return True


def wrong_type(parent: dict[str, Any], key: str, field: model.Field) -> bool:
    first(parent, key, {"id": "x"} if field.type in model.PRIMITIVES else 3, field)
    return True


FAULTS: list[Callable[[dict[str, Any], str, model.Field], bool]] = [
    *(
        missing,
        too_many,
        bad_code,
        null,
        empty,
        empty_array,
        double_choice,
        impossible_date,
        unknown_element,
        wrong_type,
    )
]
RARE = {missing, bad_code, double_choice, impossible_date}
STEP = 7  # of the others every seventh place of every example: some 500 faults of a kind


@pytest.mark.parametrize("inject", FAULTS, ids=lambda f: f.__name__)
def test_every_injected_fault_is_found_at_its_place(inject: Callable[..., bool]) -> None:
    """100 %: an error whose expression is the place of the fault, and the fast path never says valid."""
    tried = 0
    for resource in official.resources():
        spots = list(places(resource, resource["resourceType"], resource["resourceType"]))
        for parent, key, place, field in spots[:: 1 if inject in RARE else STEP]:
            before = {k: list(v) if isinstance(v, list) else v for k, v in parent.items()}
            if inject(parent, key, field):
                tried += 1
                assert not surely_valid(resource), place
                found = [i.expression[0] for i in check(resource) if i.severity == "error"]
                where = place.removesuffix(field.element.name) + key + "X" if inject is unknown_element else place
                assert any(f == where or f.startswith((where + "[", where + ".")) for f in found), (where, found)
            parent.clear()
            parent.update(before)
    assert tried > 200


def test_the_fast_path_accepts_nothing_that_has_a_fault() -> None:
    """Shaking examples at random places: accepted by the schema means no fault in the explaining pass."""
    values: list[Any] = [
        None,
        True,
        0,
        -1,
        1.5,
        "",
        " ",
        "x",
        "2020-02-30",
        [],
        [None],
        ["x"],
        {},
        {"id": "x"},
        [{"id": "x"}],
    ]
    for turn, resource in enumerate(official.resources()):
        spots = list(places(resource, resource["resourceType"], ""))
        for offset, value in enumerate(values):
            parent, key, _, _ = spots[(turn + offset * 31) % len(spots)]
            before = parent.get(key)
            parent[key] = value
            assert not surely_valid(resource) or not list(resource_faults(resource)), (key, value)
            parent[key] = before
            if before is None:
                del parent[key]
