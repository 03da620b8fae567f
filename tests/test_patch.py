"""JSON Patch, Merge Patch and XML Patch; FHIRPath Patch has a file of its own."""

import json
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from profiles.outcome import FhirError
from profiles.patch import json_patch, merge_patch, xml_patch
from profiles.patch.xml_patch import patch_tree

SHARED = Path(os.environ.get("FHIR_SHARED", Path(__file__).parents[2] / "shared"))
SUITE = Path(os.environ.get("FHIR_SUITES", SHARED / "suites")) / "patch"
PATIENT: dict[str, Any] = {"resourceType": "Patient", "active": True, "name": [{"family": "A"}, {"family": "B"}]}


def steps(*rows: dict[str, Any]) -> list[dict[str, Any]]:
    return list(rows)


def test_operations_apply_in_order_and_leave_the_original_alone() -> None:
    """RFC 6902 §5: each operation works on what the one before it left."""
    patched = json_patch(
        PATIENT,
        steps(
            {"op": "test", "path": "/active", "value": True},
            {"op": "add", "path": "/name/-", "value": {"family": "C"}},
            {"op": "move", "from": "/name/0", "path": "/name/2"},
            {"op": "copy", "from": "/name/0", "path": "/contact"},
            {"op": "remove", "path": "/active"},
            {"op": "replace", "path": "/name/1/family", "value": "D"},
        ),
    )
    assert [n["family"] for n in patched["name"]] == ["B", "D", "A"]
    assert patched["contact"] == {"family": "B"} and "active" not in patched
    assert PATIENT == {"resourceType": "Patient", "active": True, "name": [{"family": "A"}, {"family": "B"}]}


@pytest.mark.parametrize(
    ("operation", "status", "text"),
    [
        ({"op": "add", "path": "/a/b", "value": 1}, 422, "Operation 0 of the patch: there is nothing at /a"),
        ({"op": "add", "path": "/name/5", "value": 1}, 422, "index 5 is beyond the 2 items of /name"),
        ({"op": "add", "path": "/name/01", "value": 1}, 422, "'01' is not an index of an array"),
        ({"op": "add", "path": "/active/x", "value": 1}, 422, "/active is neither an object nor an array"),
        ({"op": "remove", "path": "/gender"}, 422, "there is nothing at /gender"),
        ({"op": "remove", "path": ""}, 422, "whole resource cannot be removed"),
        ({"op": "replace", "path": "", "value": 3}, 422, "not a resource"),
        ({"op": "test", "path": "/active", "value": 1}, 422, "is not the one that the test expects"),
        ({"op": "move", "from": "/name", "path": "/name/0"}, 422, "cannot be moved into itself"),
        ({"op": "replace", "path": "active", "value": 1}, 400, "must start with /"),
        ({"op": "replace", "path": "/a~2b", "value": 1}, 400, "~ must be followed by 0 or 1"),
        ({"op": "replace", "path": "/a~", "value": 1}, 400, "~ must be followed by 0 or 1"),
        ({"op": "replace", "path": "/active"}, 400, "replace needs a value"),
        ({"op": "add", "value": 1}, 400, "add needs a path"),
        ({"op": "spam", "path": "/active"}, 400, "op 'spam' is not one of add, remove"),
        ("add", 400, "an operation is an object"),
    ],
)
def test_a_bad_operation_is_named_with_its_reason(operation: Any, status: int, text: str) -> None:
    with pytest.raises(FhirError, match=re.escape(text)) as caught:
        json_patch(PATIENT, [operation])
    assert caught.value.status == status


def test_an_empty_patch_changes_nothing() -> None:
    """RFC 6902 §3: an array of operations, and none is an array too."""
    assert json_patch(PATIENT, []) == PATIENT


@pytest.mark.parametrize(
    "bomb",
    [
        [{"op": "test", "path": "/active", "value": True}] * 100_000,
        [{"op": "copy", "from": "/name", "path": f"/name/{i % 2}"} for i in range(900)],
        [{"op": "add", "path": "/" + "a/" * 100_000, "value": 1}],
    ],
)
def test_a_patch_bomb_is_refused_in_time(bomb: list[dict[str, Any]]) -> None:
    """SECURITY P25: many operations, copies that double, a huge path."""
    start = time.process_time()
    with pytest.raises(FhirError):
        json_patch(PATIENT, bomb)
    assert time.process_time() - start < 1


def test_a_merge_patch_removes_with_null_and_replaces_lists() -> None:
    """RFC 7386 §2."""
    assert merge_patch(PATIENT, {"active": None, "name": [{"family": "Z"}], "link": {"a": None, "b": 1}}) == {
        "resourceType": "Patient",
        "name": [{"family": "Z"}],
        "link": {"b": 1},
    }
    with pytest.raises(FhirError, match="is an object"):
        merge_patch(PATIENT, [1])


@given(st.recursive(st.none() | st.booleans() | st.text(max_size=3), lambda c: st.dictionaries(st.text(max_size=2), c)))
def test_a_merge_patch_applied_twice_is_applied_once(patch: Any) -> None:
    if isinstance(patch, dict):
        once = merge_patch(PATIENT, patch)
        assert merge_patch(once, patch) == once


def test_an_xml_patch_changes_the_resource() -> None:
    raw = b"""<diff xmlns="http://hl7.org/fhir" xmlns:f="http://hl7.org/fhir">
      <replace sel="f:Patient/f:active/@value">false</replace>
      <remove sel="Patient/name[family/@value='A']"/>
      <add sel="/f:Patient/f:name[1]"><given value="X"/></add>
      <add sel="f:Patient/f:name" pos="after"><gender value="male"/></add>
    </diff>"""
    assert xml_patch(PATIENT, raw) == {
        "resourceType": "Patient",
        "active": False,
        "name": [{"family": "B", "given": ["X"]}],
        "gender": "male",
    }


@pytest.mark.parametrize(
    ("operation", "text"),
    [
        ("", "holds no operation"),
        ("<remove sel='f:Patient/f:name'/>", "names 2 nodes, not one"),
        ("<remove sel='f:Patient/f:gender'/>", "names 0 nodes, not one"),
        ("<remove sel='f:Patient'/>", "whole resource cannot be removed"),
        ("<remove sel='//f:name'/>", "not a selector of RFC 5261"),
        ("<remove sel='f:Patient/f:name[count(//*)>1]'/>", "not a selector of RFC 5261"),
        ("<remove sel='x:Patient'/>", "Undefined namespace prefix"),
        (
            "<add sel='f:Patient' pos='beside'><active value='true'/></add>",
            "'beside' is not one of prepend, before, after",
        ),
        ("<add sel='f:Patient' pos='after'><active value='true'/></add>", "nothing can stand after the resource"),
        ("<spam sel='f:Patient'/>", "spam is not one of add, replace, remove"),
        ("<add sel='f:Patient'><pet value='x'/></add>", "Patient has no element pet"),
    ],
)
def test_a_bad_xml_patch_is_refused_with_its_reason(operation: str, text: str) -> None:
    with pytest.raises(FhirError, match=re.escape(text)):
        xml_patch(PATIENT, f'<diff xmlns="http://hl7.org/fhir">{operation}</diff>'.encode())


needs_suite = pytest.mark.skipif(not SUITE.is_dir(), reason="the folder FHIR_SUITES is absent")


@needs_suite
def test_the_published_json_patch_cases() -> None:
    """HL7 fhir-test-cases r4/patch, all sixteen."""
    for case in json.loads((SUITE / "json-patch-tests.json").read_bytes()):
        if "error" in case:
            with pytest.raises(FhirError):
                json_patch(case["doc"], case["patch"])
        else:
            assert json_patch(case["doc"], case["patch"]) == case["expected"], case["comment"]


# Known failures of the XML cases, each with its reason.
KNOWN = {"A.3.  Adding a Prefixed Namespace Declaration": "a namespace declaration has no place in a resource"}


def _canonical(node: etree._Element) -> bytes:
    for part in node.iter():
        part.text = (part.text or "").strip() or None
        part.tail = (part.tail or "").strip() or None
    return etree.tostring(etree.fromstring(etree.tostring(node)), method="c14n", with_comments=True)


@needs_suite
def test_the_published_xml_patch_cases() -> None:
    """HL7 fhir-test-cases r4/patch, every case that is not commented out there."""
    count = 0
    for case in etree.parse(SUITE / "xml-patch-tests.xml").getroot().iterfind("case"):
        target, expected = case.findall("target/*"), case.findall("patched/*")
        patch_root = case.find("{http://hl7.org/fhir}patch")
        assert patch_root is not None
        count += 1
        if not target or case.get("name") in KNOWN:  # a server patches no resource that is not there
            continue
        root = etree.fromstring(etree.tostring(target[0], with_tail=False))
        if case.find("error") is not None:
            with pytest.raises(FhirError):
                patch_tree(root, patch_root)
        else:
            assert _canonical(patch_tree(root, patch_root)) == _canonical(expected[0]), case.get("name")
    assert count >= 20
