"""FHIR XML read into JSON, strictly or with every fault listed (http://hl7.org/fhir/R4/xml.html)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from io import BytesIO
from typing import Any
from xml.sax.saxutils import quoteattr

from lxml import etree

from profiles import model
from profiles.json import check_depth, decimal
from profiles.outcome import FhirError, Issue
from profiles.xml_narratives import XHTML, unprefixed

FHIR = "http://hl7.org/fhir"
XSI = "http://www.w3.org/2001/XMLSchema-instance"
MAX_DEPTH = 128  # elements, for Python's stack; what they make is held to the 64 levels of JSON
ROOT_WITHIN = 1 << 16  # bytes: 30 MB of comments before it would take 0.3 s
MOST = 100  # faults listed of one document

_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?", re.ASCII)
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,18})", re.ASCII)
_TOKEN = re.compile(
    r"""<!--.*?-->|<!\[CDATA\[.*?\]\]>|<\?.*?\?>|<(?P<close>/?)(?P<name>[\w:.-]+)(?:[^<>"']|"[^"<]*"|'[^'<]*')*>""",
    re.S,
)
_INTEGERS = frozenset({"integer", "positiveInt", "unsignedInt"})
_PLACE = "narrative-"


def parser(keep_comments: bool = False) -> etree.XMLParser:
    return etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        huge_tree=False,
        remove_pis=True,
        remove_comments=not keep_comments,
    )


def parse_xml(raw: bytes) -> dict[str, Any]:
    """A resource from FHIR XML; DOCTYPE, foreign elements and stray text are errors with line and column.

    Comments and processing instructions carry no content in FHIR and are dropped.
    """
    return _read(raw, None)


def read_xml(raw: bytes) -> tuple[dict[str, Any], list[Issue]]:
    """The same for a validation: what does not belong is left out and listed; only what is no XML is an error."""
    faults: list[Issue] = []
    return _read(raw, faults), faults


def _read(raw: bytes, faults: list[Issue] | None) -> dict[str, Any]:
    source = _decode(raw)
    _read_tree(source)  # what follows cuts by pattern, in linear time only where the document is well-formed
    source, narratives = _cut_narratives(source)
    root = _read_tree(source)
    if root.tag.partition("}")[0] != "{" + FHIR:
        raise _at(root, f"The root element is not in the namespace {FHIR}")
    resource = _read_resource(root, _Reading(narratives, faults), 0)
    check_depth(resource)
    return resource


@dataclass(frozen=True, slots=True)
class _Reading:
    """The narratives that were cut out, and the faults found; None for them where the first one ends the reading."""

    narratives: list[str]
    faults: list[Issue] | None

    def wrong(self, node: etree._Element, text: str) -> None:
        error = _at(node, text)
        if self.faults is None:
            raise error
        self.faults.extend(error.issues)
        if len(self.faults) >= MOST:
            raise FhirError.of(self.faults)


def parse_tree(raw: bytes) -> etree._Element:
    """The tree of a document from outside, comments and all; DOCTYPE is refused, nothing is fetched."""
    return _read_tree(_decode(raw), keep_comments=True)


def named_type(raw: bytes) -> str:
    """The name of the root in FHIR's namespace, "" where it is another or far off; the rest is not looked at."""
    events = etree.iterparse(
        BytesIO(raw[:ROOT_WITHIN]), ("start",), resolve_entities=False, no_network=True, load_dtd=False
    )
    try:
        name = etree.QName(next(events)[1])
    except (etree.XMLSyntaxError, StopIteration):
        return ""
    return name.localname if name.namespace == FHIR else ""


def _read_tree(source: str, keep_comments: bool = False) -> etree._Element:
    try:
        return etree.fromstring(source.encode(), parser(keep_comments))
    except etree.XMLSyntaxError as error:
        line, column = error.position
        raise _fault(f"The XML is not well-formed: {error.msg}", line, column) from None


def _decode(raw: bytes) -> str:
    try:
        source = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _fault(f"The XML is not UTF-8: byte {error.start}", 1) from None
    head = re.match(r"\s*<\?xml\b[^>]*\?>", source)
    if head:  # the encoding it names is no longer that of the decoded text
        source = source[head.end() :]
    if re.search(r"<!\s*(DOCTYPE|ENTITY)", source, re.I):
        raise _fault("A document type declaration is not allowed in FHIR XML", 1)
    return source


def _cut_narratives(source: str) -> tuple[str, list[str]]:
    """The source with each narrative div replaced by an empty one that carries its number, and the divs as written."""
    narratives: list[str] = []
    kept: list[str] = []
    done = depth = start = 0
    for token in _TOKEN.finditer(source):
        name = token["name"]
        if name is None or name.rpartition(":")[2] != "div":
            continue
        if not depth:
            start = token.start()
        depth += -1 if token["close"] else 0 if token[0].endswith("/>") else 1
        if depth <= 0:
            depth = 0
            kept += [source[done:start], f'<div xmlns="{XHTML}" id="{_PLACE}{len(narratives)}"/>']
            narratives.append(source[start : token.end()])
            kept.append("\n" * narratives[-1].count("\n"))  # lines keep their numbers
            done = token.end()
    return "".join(kept) + source[done:], narratives


def _read_resource(node: etree._Element, reading: _Reading, depth: int) -> dict[str, Any]:
    name = _local(node)
    if name not in model.RESOURCE_TYPES:
        raise _at(node, f"{name} is not a resource type of FHIR R4")
    resource: dict[str, Any] = {"resourceType": name}
    _refuse_attributes(node, reading)
    _read_children(node, name, resource, reading, depth + 1)
    return resource


def _read_children(node: etree._Element, type_name: str, into: dict[str, Any], reading: _Reading, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise _at(node, f"The XML is nested more than {MAX_DEPTH} elements deep")
    _refuse_text(node.text, node, reading)
    found: dict[str, list[tuple[Any, Any]]] = {}
    for child in node:
        _refuse_text(child.tail, child, reading)
        field = _field(child, type_name, reading)
        if field is None:
            continue
        name = _local(child)
        if name in found and field.element.max == 1:
            reading.wrong(child, f"The element {name} appears more than once")
        else:
            found.setdefault(name, []).append(_read_one(child, field.type, reading, depth))
    if reading.faults is not None:
        _check_order(node, type_name, reading)
    for name, pairs in found.items():
        _put(into, name, model.fields(type_name)[name].element.max == 1, pairs)


def _field(node: etree._Element, type_name: str, reading: _Reading) -> model.Field | None:
    try:
        name = _local(node)
    except FhirError as error:
        reading.wrong(node, error.text)
        return None
    field = model.field(type_name, name)
    if field is None or field.element.is_attribute:
        reading.wrong(node, f"{type_name} has no element {name}")
        return None
    return field


def _check_order(node: etree._Element, type_name: str, reading: _Reading) -> None:
    """http://hl7.org/fhir/R4/xml.html: elements stand in the order of the definition; only a validation minds."""
    order = {name: place for place, name in enumerate(model.fields(type_name))}
    last, after = -1, ""
    for child in node:
        name = etree.QName(child).localname
        place = order.get(name, last)
        if place < last:
            reading.wrong(child, f"The element {name} is out of order: it stands after {after}")
        else:
            last, after = place, name


def _read_one(node: etree._Element, type_name: str, reading: _Reading, depth: int) -> tuple[Any, dict[str, Any] | None]:
    """(value, its `_` object or None)."""
    if type_name == "xhtml":
        return _read_narrative(node, reading), None
    if model.is_a(type_name, "Resource"):
        if len(node) != 1:
            raise _at(node, f"{_local(node)} must hold one resource")
        _refuse_attributes(node, reading)
        _refuse_text(node.text, node, reading)
        _refuse_text(node[0].tail, node, reading)
        return _read_resource(node[0], reading, depth), None
    content: dict[str, Any] = {}
    primitive = type_name in model.PRIMITIVES
    for key, text in ((str(k), str(v)) for k, v in node.attrib.items()):
        if key in ("id", "url") and (key == "id" or type_name == "Extension"):
            content[key] = text
        elif not (key == "value" and primitive) and not key.startswith("{" + XSI):
            reading.wrong(node, f"{_local(node)} has no attribute {key}")
    _read_children(node, "Element" if primitive else type_name, content, reading, depth + 1)
    if primitive:
        if "value" not in node.attrib and not content:
            reading.wrong(node, f"The element {_local(node)} has neither a value nor an extension")
        return _value(node, type_name), content or None
    return content, None


def _put(into: dict[str, Any], name: str, single: bool, pairs: list[tuple[Any, Any]]) -> None:
    """The values of one element and their `_` objects, each list only where it holds anything."""
    for key, column in ((name, [p[0] for p in pairs]), (f"_{name}", [p[1] for p in pairs])):
        if any(item is not None for item in column):
            into[key] = column[0] if single else column


def _value(node: etree._Element, type_name: str) -> Any:
    """The JSON value of an attribute; what is not of its type stays text, and the validator says so."""
    text = node.get("value")
    if text is None:
        return None
    if type_name == "boolean":
        return {"true": True, "false": False}.get(text, text)
    if type_name in _INTEGERS:
        return int(text) if _INTEGER.fullmatch(text) else text
    if type_name == "decimal":
        return _decimal(node, text) if _NUMBER.fullmatch(text) else text
    return text


def _decimal(node: etree._Element, text: str) -> Decimal:
    try:
        return decimal(text)
    except ValueError as error:
        raise _at(node, f"This is not XML that FHIR allows: {error}") from None


def _read_narrative(node: etree._Element, reading: _Reading) -> str:
    """The div as written; one that a parser cannot read, or that is of another namespace, is an error."""
    number = node.get("id", "")
    if node.tag != f"{{{XHTML}}}div" or not number.startswith(_PLACE):
        reading.wrong(node, f"The narrative must be a div in the namespace {XHTML}")
        return ""
    div = reading.narratives[int(number.removeprefix(_PLACE))]
    root = _narrative_root(node, div)
    if root.tag != f"{{{XHTML}}}div":
        reading.wrong(node, f"The narrative must be a div in the namespace {XHTML}")
    return div if root.prefix is None and root.getparent() is None else unprefixed(root)


def _narrative_root(node: etree._Element, div: str) -> etree._Element:
    """The parsed div: by itself, or below what the document around it says about prefixes."""
    try:
        return etree.fromstring(div, parser())
    except etree.XMLSyntaxError:
        known = "".join(f" xmlns:{name}={quoteattr(url)}" for name, url in node.nsmap.items() if name)
    try:
        return etree.fromstring(f"<around{known}>{div}</around>", parser())[0]
    except etree.XMLSyntaxError as error:
        raise _at(node, f"The narrative is not well-formed: {error.msg}") from None


def _local(node: etree._Element) -> str:
    namespace, _, name = str(node.tag).rpartition("}")
    if namespace != "{" + (XHTML if name == "div" else FHIR):
        raise _at(node, f"The element {name} is not in the namespace {FHIR}")
    return name


def _refuse_attributes(node: etree._Element, reading: _Reading) -> None:
    """A resource and what holds it have none but those for a schema; its id is an element."""
    for key in map(str, node.attrib):
        if not key.startswith("{" + XSI):
            reading.wrong(node, f"{_local(node)} has no attribute {key}")


def _refuse_text(text: str | None, node: etree._Element, reading: _Reading) -> None:
    if text and not text.isspace():
        reading.wrong(node, f"FHIR XML has no text outside attributes, found {text.strip()[:40]!r}")


def _at(node: etree._Element, text: str) -> FhirError:
    line: Any = node.sourceline
    return _fault(text, line, path=_path(node))


def _fault(text: str, line: int | None, column: int | None = None, path: str = "") -> FhirError:
    issue = Issue("error", "structure", text, (path,) if path else (), line, column)
    return FhirError("structure", text, issues=[issue])


def _path(node: etree._Element) -> str:
    """The FHIRPath of a node: `Patient.name[0].given[1]`."""
    root, *below = reversed([node, *node.iterancestors()])
    path = kind = etree.QName(root).localname
    for each in below:
        name = etree.QName(each).localname
        if kind == "Resource":  # the element that holds a resource is named once
            kind = name
            continue
        field = model.field(kind, name)
        path += "." + (field.element.name if field else name)
        if field and field.element.max != 1:
            path += f"[{sum(1 for _ in each.itersiblings(each.tag, preceding=True))}]"
        kind = field.type if field else ""
    return path
