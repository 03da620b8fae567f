"""FHIRPath Patch and the difference of two resources."""

from __future__ import annotations

import copy
import os
import random
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from profiles.json import parse
from profiles.outcome import FhirError
from profiles.patch import diff, fhirpath_patch

PATIENT: dict[str, Any] = {
    "resourceType": "Patient",
    "id": "1",
    "contained": [{"resourceType": "Organization", "id": "o", "name": "Acme"}],
    "active": True,
    "name": [{"family": "A", "given": ["a", "b"], "_given": [None, {"id": "x"}]}, {"family": "B"}],
    "birthDate": "1970-01-01",
    "deceasedBoolean": False,
    "contact": [{"gender": "male"}],
    "extension": [{"url": "http://example.org/e", "valueString": "old"}],
}


def operation(kind: str, path: str, **parts: Any) -> dict[str, Any]:
    """An operation; a dict is a part's content, other values are primitives."""
    rows: list[dict[str, Any]] = [{"name": "type", "valueCode": kind}, {"name": "path", "valueString": path}]
    for name, value in parts.items():
        row = value if isinstance(value, dict) else {"valueInteger" if isinstance(value, int) else "valueString": value}
        rows.append({"name": name, **row})
    return {"name": "operation", "part": rows}


def patch(*operations: dict[str, Any], resource: dict[str, Any] = PATIENT) -> dict[str, Any]:
    before = copy.deepcopy(resource)
    patched = fhirpath_patch(resource, {"resourceType": "Parameters", "parameter": list(operations)})
    assert resource == before, "the resource given is not changed"
    return patched


def test_add_to_what_is_missing_and_to_lists() -> None:
    """Add sets what does not repeat and appends to what does."""
    patched = patch(
        operation("add", "Patient", name="gender", value={"valueCode": "female"}),
        operation("add", "Patient.name[1]", name="given", value={"valueString": "c", "_valueString": {"id": "y"}}),
        operation("add", "Patient.name[0]", name="given", value={"valueString": "z"}),
        operation("add", "Patient.birthDate", name="extension", value=extension("u", "v")),
    )
    assert patched["gender"] == "female"
    assert patched["name"][1] == {"family": "B", "given": ["c"], "_given": [{"id": "y"}]}
    assert patched["name"][0]["given"] == ["a", "b", "z"]
    assert patched["name"][0]["_given"] == [None, {"id": "x"}, None]
    assert patched["_birthDate"] == {"extension": [{"url": "u", "valueString": "v"}]}


def extension(url: str, value: str) -> dict[str, Any]:
    """An extension as parts: value[x] of Parameters cannot hold one."""
    return {"part": [{"name": "url", "valueUri": url}, {"name": "value", "valueString": value}]}


def test_choices_change_their_property() -> None:
    """A choice of another type takes the other name."""
    patched = patch(operation("replace", "Patient.deceased", value={"valueDateTime": "2020"}))
    assert patched["deceasedDateTime"] == "2020"
    assert "deceasedBoolean" not in patched
    patched = patch(operation("replace", "Patient.extension('http://example.org/e').value", value={"valueCode": "n"}))
    assert patched["extension"] == [{"url": "http://example.org/e", "valueCode": "n"}]


def test_delete_leaves_no_empty_element() -> None:
    """JSON has no empty objects and lists."""
    patched = patch(
        operation("delete", "Patient.contact.gender"),
        operation("delete", "Patient.name.where(family = 'A').given[1]"),
        operation("delete", "Patient.gender"),
    )
    assert "contact" not in patched
    assert patched["name"][0] == {"family": "A", "given": ["a"]}


def test_insert_and_move() -> None:
    """Indexes count from 0; twins move along."""
    patched = patch(
        operation("insert", "Patient.name", index=0, value={"valueHumanName": {"family": "0"}}),
        operation("move", "Patient.name", source=2, destination=0),
        operation("move", "Patient.name[2].given", source=1, destination=0),
        operation("insert", "Patient.link", index=0, value={"part": [{"name": "type", "valueCode": "refer"}]}),
    )
    assert [n["family"] for n in patched["name"]] == ["B", "0", "A"]
    assert patched["name"][2]["given"] == ["b", "a"]
    assert patched["name"][2]["_given"] == [{"id": "x"}, None]
    assert patched["link"] == [{"type": "refer"}]


def test_contained_resources_are_patched_by_their_type() -> None:
    """A path goes into contained resources, a part may be a resource."""
    group = {"resourceType": "Group", "id": "g"}
    patched = patch(
        operation("replace", "Patient.contained.where(id = 'o').name", value={"valueString": "Ace"}),
        operation("add", "Patient", name="contained", value={"resource": group}),
    )
    assert patched["contained"] == [{"resourceType": "Organization", "id": "o", "name": "Ace"}, group]


@pytest.mark.parametrize(
    ("row", "status", "text"),
    [
        (operation("shift", "Patient"), 400, "type 'shift' is not one of add, insert, delete, replace, move"),
        (operation("add", "Patient", name="active", value={"valueBoolean": True}), 422, "is there already"),
        (
            operation("add", "Patient", name="nothing", value={"valueBoolean": True}),
            422,
            "Patient has no element nothing",
        ),
        (operation("add", "Patient.link", name="type", value={"valueCode": "x"}), 422, "selects no elements, not one"),
        (operation("add", "Patient.name", name="family", value={"valueString": "x"}), 422, "selects 2 elements"),
        (operation("add", "Patient", name="gender"), 400, "the part value is missing"),
        (operation("add", "Patient", value={"valueString": "x"}), 400, "the part name is missing"),
        (operation("add", "Patient", name="contact", value={}), 400, "the value is empty"),
        (operation("add", "Patient", name="birthDate", value={"valueCoding": {}}), 422, "holds a date, not a Coding"),
        (operation("add", "Patient", name="multipleBirth", value={"valueCode": "x"}), 422, "cannot hold a Code"),
        (operation("delete", "Patient.name"), 422, "selects 2 elements; only one at a time"),
        (operation("delete", "Patient"), 422, "is the whole resource"),
        (operation("delete", "Patient.name[0]", index=1), 400, "delete has no part index"),
        (operation("replace", "Patient.gender", value={"valueCode": "x"}), 422, "selects no elements, not one"),
        (operation("insert", "Patient.name", index=5, value={"valueHumanName": {}}), 422, "beyond the 2 items"),
        (operation("insert", "Patient.gender", index=0, value={"valueCode": "x"}), 422, "does not repeat"),
        (operation("move", "Patient.name", source=0, destination=2), 422, "index 2 is beyond the 2 items"),
        (operation("move", "Patient.name", source="0", destination=1), 400, "source must be an integer"),
        (operation("delete", "Patient.name.nothing"), 400, "HumanName has no element nothing"),
        (operation("delete", "Patient.name.("), 400, "Unexpected"),
        (operation("delete", "1 + 1"), 400, "A path to an element is needed"),
        (operation("delete", "Patient.managingOrganization.resolve()"), 422, ""),
        (operation("delete", "Patient.descendants()"), 400, "only hold members, indexes and filters"),
        ({"name": "operation", "part": 5}, 400, "part is not an array"),
        (operation("add", "Patient", name=5, value={"valueCode": "x"}), 400, "name must be a string"),
        (operation("add", "Patient", name="contact", value={"part": 5}), 400, "part is not an array"),
        (
            {"name": "operation", "part": [{"name": "type", "valueCode": "add"}, {"name": "path", "valueInteger": 5}]},
            400,
            "path must be a string",
        ),
        ({"name": "op"}, 400, "is not called operation"),
        ({"name": "operation", "part": [{"name": "type"}, {"name": "type"}]}, 400, "stands twice"),
    ],
)
def test_misfits_name_the_operation(row: dict[str, Any], status: int, text: str) -> None:
    """400 for what is malformed, 422 for what does not fit, with the number of the operation."""
    if text:
        good = operation("replace", "Patient.active", value={"valueBoolean": False})
        with pytest.raises(FhirError) as caught:
            patch(good, row)
        assert text in caught.value.text
        assert caught.value.text.startswith("Operation 1 of the patch: ")
        assert caught.value.status == status
    else:
        assert patch(row) == PATIENT  # nothing found, nothing deleted


def test_not_a_patch() -> None:
    """Only Parameters are a FHIRPath Patch; none of too many operations is applied."""
    with pytest.raises(FhirError, match="Parameters"):
        fhirpath_patch(PATIENT, {"resourceType": "Patient"})
    with pytest.raises(FhirError, match="array of operations"):
        fhirpath_patch(PATIENT, {"resourceType": "Parameters", "parameter": 5})
    with pytest.raises(FhirError, match="1000 operations"):
        patch(*[operation("delete", "Patient.gender")] * 1001)


def test_a_patch_of_costly_paths_ends_soon() -> None:
    """All paths of one patch share one budget."""
    path = "Patient" + ".name.where(given.select(%resource.descendants()).exists())" * 60
    start = time.process_time()
    with pytest.raises(FhirError):
        patch(*[operation("delete", path)] * 100)
    assert time.process_time() - start < 2


def test_a_deep_value_is_refused() -> None:
    """Parts within parts end at a limit."""
    part: dict[str, Any] = {"valueString": "x"}
    for _ in range(60):
        part = {"part": [{"name": "extension", **part}]}
    with pytest.raises(FhirError, match="nested deeper"):
        patch(operation("add", "Patient", name="extension", value=part))


def test_no_difference() -> None:
    """Equal resources have an empty patch; resources of two types have none."""
    assert diff(PATIENT, copy.deepcopy(PATIENT)) == {"resourceType": "Parameters"}
    with pytest.raises(FhirError):
        diff(PATIENT, {"resourceType": "Group"})


def test_a_difference_is_small() -> None:
    """One changed value is one operation at its place."""
    after = copy.deepcopy(PATIENT)
    after["name"][1]["family"] = "C"
    found = diff(PATIENT, after)["parameter"]
    assert found == [operation("replace", "Patient.name[1].family", value={"valueString": "C"})]
    after = copy.deepcopy(PATIENT)
    after["name"].insert(0, {"family": "New"})
    found = diff(PATIENT, after)["parameter"]
    assert found == [operation("insert", "Patient.name", index=0, value={"valueHumanName": {"family": "New"}})]


def test_decimals_keep_their_digits() -> None:
    """1.0 and 1.00 are different resources."""
    one = {"resourceType": "Observation", "valueQuantity": {"value": Decimal("1.0")}}
    two = {"resourceType": "Observation", "valueQuantity": {"value": Decimal("1.00")}}
    patched = fhirpath_patch(one, diff(one, two))
    assert str(patched["valueQuantity"]["value"]) == "1.00"


def examples() -> list[Path]:
    folder = os.environ.get("FHIR_EXAMPLES")
    return sorted(Path(folder).glob("*-*.json")) if folder else []


@pytest.mark.skipif(not examples(), reason="the official examples are not here (FHIR_EXAMPLES)")
def test_a_difference_applied_gives_the_other_resource() -> None:
    """For pairs of official examples of one type."""
    chosen = random.Random(6902).sample(examples(), 300)
    by_type: dict[str, list[dict[str, Any]]] = {}
    for file in chosen:
        resource = parse(file.read_bytes())
        if isinstance(resource, dict) and file.stat().st_size < 60_000:
            by_type.setdefault(resource["resourceType"], []).append(resource)
    for resources in by_type.values():
        for before, after in zip(resources, resources[1:] + resources[:1], strict=True):
            assert fhirpath_patch(before, diff(before, after)) == after
