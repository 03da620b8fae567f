"""FHIR XML (http://hl7.org/fhir/R4/xml.html)."""

import glob
import json
import os
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from profiles.json import encode, parse
from profiles.outcome import FhirError
from profiles.xml import parse_xml, print_xml, read_xml

DIV = (
    '<div xmlns="http://www.w3.org/1999/xhtml"><p class="a">Müller &amp; <b>Söhne</b> &#160;<br/></p><div>x</div></div>'
)
PATIENT: dict[str, Any] = {
    "resourceType": "Patient",
    "id": "p1",
    "text": {"status": "generated", "div": DIV},
    "contained": [{"resourceType": "Organization", "id": "o", "name": "Line 1\nTab\there \"quoted\" <x> 'y' & z"}],
    "extension": [{"url": "http://e.org/x", "valueDecimal": Decimal("1.500")}],
    "active": False,
    "name": [
        {
            "given": ["A", None, "C"],
            "_given": [None, {"extension": [{"url": "http://e.org/n", "valueString": "gone"}]}, None],
        },
        {"_family": {"id": "f1", "extension": [{"url": "http://e.org/n", "valueBoolean": True}]}},
    ],
    "birthDate": "1970-03",
    "multipleBirthInteger": 3,
}


def xml(inner: str, root: str = "Patient") -> bytes:
    return f'<{root} xmlns="http://hl7.org/fhir">{inner}</{root}>'.encode()


def test_a_resource_survives_the_way_there_and_back() -> None:
    """Decimals, empty places in lists, contained resources and the narrative come back as they were."""
    back = parse_xml(print_xml(PATIENT))
    assert back == PATIENT
    assert str(back["extension"][0]["valueDecimal"]) == "1.500"


def test_elements_are_written_in_the_order_of_the_definition() -> None:
    """The schema of FHIR XML is a sequence, whatever the order of the JSON properties."""
    text = print_xml({"resourceType": "Patient", "birthDate": "1970", "active": True, "id": "a"}).decode()
    assert text.index("<id ") < text.index("<active ") < text.index("<birthDate ")


def test_indented_xml_says_the_same() -> None:
    """A tag a line; the narrative as it is (R4 http.html#pretty)."""
    text = print_xml(PATIENT, indented=True)
    assert parse_xml(text) == PATIENT
    assert b'\n  <contained>\n    <Organization>\n      <id value="o"/>\n' in text
    assert text.endswith(b"</Patient>\n")


def test_comments_and_instructions_are_dropped() -> None:
    head = b'<?xml version="1.0"?><?xml-stylesheet href="x.css"?><!-- a <div> -->'
    raw = head + xml('<!-- b --><active value="true"/>')
    assert parse_xml(raw) == {"resourceType": "Patient", "active": True}


def test_a_narrative_inside_a_comment_is_not_cut() -> None:
    raw = xml(f"<!-- {DIV.replace('--', '')} --><text><status value='generated'/>{DIV}</text>")
    assert parse_xml(raw)["text"]["div"] == DIV


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"<Patient", "not well-formed"),
        (b"\xff\xfe<\x00P\x00", "not UTF-8"),
        (b"<Patient/>", "not in the namespace http://hl7.org/fhir"),
        (xml("", "Pet"), "Pet is not a resource type"),
        (xml("<pet value='x'/>"), "Patient has no element pet"),
        (xml("<active value='true'/><active value='true'/>"), "active appears more than once"),
        (xml("<active value='true' lang='x'/>"), "active has no attribute lang"),
        (xml("text"), "no text outside attributes"),
        (xml("<active xmlns='http://www.w3.org/1999/xhtml' value='true'/>"), "not in the namespace"),
        (xml("<name><given value='a'/><given/></name>"), "given has neither a value nor an extension"),
        (xml("<active value='true' xml:lang='de'/>"), "active has no attribute"),
        (b"<Patient xmlns='http://hl7.org/fhir' id='p1'/>", "Patient has no attribute id"),
        (xml("<contained id='c1'><Patient/></contained>"), "contained has no attribute id"),
        (xml("<contained>x<Patient/></contained>"), "no text outside attributes"),
        (xml("<contained><Patient/>x</contained>"), "no text outside attributes"),
        (xml("<contained><Patient/><Patient/></contained>"), "contained must hold one resource"),
        (xml("<text><status value='empty'/><div>x</div></text>"), "narrative must be a div"),
        (xml("<x:active xmlns:x='http://other.org' value='true'/>"), "not in the namespace"),
        (b'<!DOCTYPE Patient [<!ENTITY a "b">]>' + xml(""), "document type declaration"),
        (b'<!DOCTYPE Patient SYSTEM "file:///etc/passwd">' + xml(""), "document type declaration"),
        (xml("<extension url='a'>" * 140 + "</extension>" * 140), "nested more than 128"),
    ],
)
def test_bad_xml_is_refused_with_a_reason(raw: bytes, text: str) -> None:
    """Each fault is one 400 that names it."""
    with pytest.raises(FhirError, match=text) as caught:
        parse_xml(raw)
    assert caught.value.status == 400


def test_where_the_schema_lies_may_be_told() -> None:
    head = "xmlns:xsi='http://www.w3.org/2001/XMLSchema-instance' xsi:schemaLocation='http://hl7.org/fhir a.xsd'"
    raw = f"<f:Patient xmlns:f='http://hl7.org/fhir' {head}><f:active value='true'/></f:Patient>"
    assert parse_xml(raw.encode()) == {"resourceType": "Patient", "active": True}


@pytest.mark.parametrize(
    "div",
    [
        "<h:div xmlns:h='http://www.w3.org/1999/xhtml'>a<h:p>b</h:p>c</h:div>",
        "<x:div>a<!-- none --><x:p>b</x:p>c</x:div>",
        "<x:div>a<p xmlns='http://www.w3.org/1999/xhtml'>b</p>c</x:div>",
    ],
)
def test_a_narrative_with_a_prefix_loses_it(div: str) -> None:
    """JSON has the div alone: nothing around it says what a prefix means (R4 narrative.html)."""
    inner = f"<text xmlns:x='http://www.w3.org/1999/xhtml'><status value='generated'/>{div}</text>"
    assert parse_xml(xml(inner))["text"]["div"] == '<div xmlns="http://www.w3.org/1999/xhtml">a<p>b</p>c</div>'


@pytest.mark.parametrize(
    ("div", "text"),
    [
        ('<div xmlns="http://www.w3.org/1999/xhtml">a&nbsp;&lt;b</div>', ">a\u00a0&lt;b</div>"),
        ('<!-- x --><div xmlns="http://www.w3.org/1999/xhtml">a</div>', '<div xmlns="http://www.w3.org/1999/xhtml">a<'),
        ("<p>a</p>", "&lt;p&gt;a&lt;/p&gt;</div>"),
    ],
)
def test_a_narrative_of_json_that_is_no_xml(div: str, text: str) -> None:
    """Names of HTML become the characters that they stand for; what is no div at all is told as its text."""
    written = print_xml({"resourceType": "Patient", "text": {"status": "generated", "div": div}})
    assert text in written.decode()
    parse_xml(written)


def test_characters_that_xml_cannot_hold_are_replaced() -> None:
    """XML 1.0, section Characters: not even as references."""
    written = print_xml({"resourceType": "Patient", "name": [{"family": "a\ufffeb\x01c\n\x85"}]})
    assert parse_xml(written)["name"] == [{"family": "a\ufffdb\ufffdc\n\x85"}]


def test_the_place_of_a_fault_is_told() -> None:
    with pytest.raises(FhirError) as caught:
        parse_xml(xml("\n<active value='true'/>\n  <pet value='x'/>\n"))
    assert caught.value.issues[0].line == 3


@pytest.mark.parametrize("bomb", [b"<!--" * 500_000, xml("<div>" * 100_000), b"<a b='" * 300_000])
def test_hostile_xml_is_refused_in_linear_time(bomb: bytes) -> None:
    start = time.process_time()
    with pytest.raises(FhirError):
        parse_xml(bomb)
    assert time.process_time() - start < 1


@pytest.mark.parametrize("number", ["0.00000001", "1.50e3", "1.5E-10", "100", "-0.10", "0.0"])
def test_decimals_keep_their_digits(number: str) -> None:
    """R4 datatypes.html#decimal: the precision is kept, and so is the text, as in JSON."""
    raw = xml(f"<extension url='u'><valueDecimal value='{number}'/></extension>")
    assert b'"valueDecimal":%b}' % number.encode() in encode(parse_xml(raw))
    assert f'value="{number}"'.encode() in print_xml(parse_xml(raw))


@pytest.mark.parametrize("number", ["1e3000", "1e-999999", "1e99999999999999999999", "9" * 5000])
@pytest.mark.parametrize("read", [parse_xml, read_xml])
def test_absurd_numbers_are_refused(number: str, read: Callable[[bytes], Any]) -> None:
    """The limits of JSON (D13), with the place."""
    raw = xml(f"<extension url='u'><valueDecimal value='{number}'/></extension>")
    with pytest.raises(FhirError, match="beyond the limits") as caught:
        read(raw)
    assert caught.value.issues[0].expression == ("Patient.extension[0].value",)


def nested(levels: int, inner: str = "") -> str:
    """So many extensions, one in the other."""
    return "<extension url='u'>" * levels + inner + "</extension>" * levels


def test_depth_is_that_of_json() -> None:
    """What XML accepts can be sent back as JSON, and the other way round: 64 levels of objects and arrays."""
    coded = "<valueCodeableConcept><coding><code value='x'/></coding></valueCodeableConcept>"
    deepest = parse_xml(xml(nested(30, coded)))
    assert parse(encode(deepest)) == deepest == parse_xml(print_xml(deepest))
    for levels in (31, 100):
        with pytest.raises(FhirError, match="nested deeper than 64 levels") as caught:
            parse_xml(xml(nested(levels, coded)))
        assert caught.value.status == 400


def test_a_value_that_is_not_of_its_type_stays_for_the_validator() -> None:
    found = parse_xml(xml("<active value='yes'/><multipleBirthInteger value='1.0'/>"))
    assert (found["active"], found["multipleBirthInteger"]) == ("yes", "1.0")


@pytest.mark.skipif("FHIR_EXAMPLES" not in os.environ, reason="FHIR_EXAMPLES does not name the official package")
@pytest.mark.slow
def test_all_official_examples_survive() -> None:
    for name in sorted(glob.glob(os.environ["FHIR_EXAMPLES"] + "/*.json")):
        resource = json.loads(Path(name).read_bytes(), parse_float=Decimal)
        if "resourceType" in resource and not Path(name).name.startswith(".") and "fhirVersions" not in resource:
            assert parse_xml(print_xml(resource)) == resource, name
