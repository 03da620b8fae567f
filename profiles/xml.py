"""FHIR XML, both ways, driven by the type model (http://hl7.org/fhir/R4/xml.html).

The narrative travels as written: its text is cut out before parsing and put back untouched, so JSON → XML → JSON
is equal.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from lxml import etree

from profiles import model
from profiles.outcome import FhirError, Issue

FHIR = "http://hl7.org/fhir"
XHTML = "http://www.w3.org/1999/xhtml"
XSI = "http://www.w3.org/2001/XMLSchema-instance"
MAX_DEPTH = 128  # elements; 64 levels of JSON, where an array is a level and its element another

_DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>'
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?", re.ASCII)
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,18})", re.ASCII)
_TOKEN = re.compile(
    r"""<!--.*?-->|<!\[CDATA\[.*?\]\]>|<\?.*?\?>|<(?P<close>/?)(?P<name>[\w:.-]+)(?:[^<>"']|"[^"<]*"|'[^'<]*')*>""",
    re.S,
)
_INTEGERS = frozenset({"integer", "positiveInt", "unsignedInt"})
_PLACE = "narrative-"


def print_xml(resource: dict[str, Any]) -> bytes:
    """The resource as FHIR XML in UTF-8; properties that its type does not have are left out."""
    parts = [_DECLARATION]
    _print_resource(resource, parts, f' xmlns="{FHIR}"')
    return "".join(parts).encode()


def _print_resource(resource: dict[str, Any], parts: list[str], namespace: str = "") -> None:
    name = resource["resourceType"]
    parts.append(f"<{name}{namespace}>")
    _print_children(resource, name, parts)
    parts.append(f"</{name}>")


def _print_children(value: dict[str, Any], type_name: str, parts: list[str]) -> None:
    for name, field in model.fields(type_name).items():
        if not field.element.is_attribute and (name in value or f"_{name}" in value):
            for item, extra in _pairs(value.get(name), value.get(f"_{name}")):
                _print_one(name, field.type, item, extra or {}, parts)


def _pairs(value: Any, extra: Any) -> Iterator[tuple[Any, Any]]:
    """Values beside their `_` objects; the shorter list is filled with None."""
    values = value if isinstance(value, list) else [value]
    extras = extra if isinstance(extra, list) else [extra]
    for place in range(max(len(values), len(extras))):
        yield (values[place] if place < len(values) else None, extras[place] if place < len(extras) else None)


def _print_one(name: str, type_name: str, value: Any, extra: dict[str, Any], parts: list[str]) -> None:
    if type_name == "xhtml":
        parts.append(_narrative(str(value)))
    elif isinstance(value, dict) and "resourceType" in value and model.is_a(type_name, "Resource"):
        parts.append(f"<{name}>")
        _print_resource(value, parts)
        parts.append(f"</{name}>")
    elif isinstance(value, dict):
        _print_element(name, _attributes(value, type_name), value, type_name, parts)
    else:
        attributes = _attributes(extra, "Element")
        if value is not None:
            attributes += f" value={quoteattr(_text(value), {chr(10): '&#10;', chr(13): '&#13;', chr(9): '&#9;'})}"
        _print_element(name, attributes, extra, "Element", parts)


def _print_element(name: str, attributes: str, content: dict[str, Any], type_name: str, parts: list[str]) -> None:
    start = len(parts)
    parts.append(f"<{name}{attributes}>")
    _print_children(content, type_name, parts)
    if len(parts) == start + 1:
        parts[start] = f"<{name}{attributes}/>"
    else:
        parts.append(f"</{name}>")


def _attributes(value: dict[str, Any], type_name: str) -> str:
    found = ""
    for key in ("id", "url"):
        field = model.field(type_name, key)
        if key in value and field and field.element.is_attribute:
            found += f" {key}={quoteattr(str(value[key]))}"
    return found


def _text(value: Any) -> str:
    return ("false", "true")[value] if isinstance(value, bool) else str(value)


def _narrative(div: str) -> str:
    """The div as it is where it is XML of its own, else its text: one bad narrative does not spoil the document."""
    try:
        root = etree.fromstring(div, _parser())
    except etree.XMLSyntaxError:
        root = None
    if root is None or root.tag != f"{{{XHTML}}}div" or div.lstrip()[:4] != "<div":
        return f'<div xmlns="{XHTML}">{escape(div)}</div>'
    return div.strip()


def _parser(keep_comments: bool = False) -> etree.XMLParser:
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
    source = _decode(raw)
    _read_tree(source)  # what follows cuts by pattern, in linear time only where the document is well-formed
    source, narratives = _cut_narratives(source)
    root = _read_tree(source)
    if root.tag.partition("}")[0] != "{" + FHIR:
        raise _at(root, f"The root element is not in the namespace {FHIR}")
    return _read_resource(root, narratives, 0)


def parse_tree(raw: bytes) -> etree._Element:
    """The tree of a document from outside, comments and all; DOCTYPE is refused, nothing is fetched."""
    return _read_tree(_decode(raw), keep_comments=True)


def _read_tree(source: str, keep_comments: bool = False) -> etree._Element:
    try:
        return etree.fromstring(source.encode(), _parser(keep_comments))
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


def _read_resource(node: etree._Element, narratives: list[str], depth: int) -> dict[str, Any]:
    name = _local(node)
    if name not in model.RESOURCE_TYPES:
        raise _at(node, f"{name} is not a resource type of FHIR R4")
    resource: dict[str, Any] = {"resourceType": name}
    _read_children(node, name, resource, narratives, depth + 1)
    return resource


def _read_children(
    node: etree._Element, type_name: str, into: dict[str, Any], narratives: list[str], depth: int
) -> None:
    if depth > MAX_DEPTH:
        raise _at(node, f"The XML is nested more than {MAX_DEPTH} elements deep")
    _refuse_text(node.text, node)
    found: dict[str, list[tuple[Any, Any]]] = {}
    for child in node:
        _refuse_text(child.tail, child)
        name = _local(child)
        field = model.field(type_name, name)
        if field is None or field.element.is_attribute:
            raise _at(child, f"{type_name} has no element {name}")
        if name in found and field.element.max == 1:
            raise _at(child, f"The element {name} appears more than once")
        found.setdefault(name, []).append(_read_one(child, field.type, narratives, depth))
    for name, pairs in found.items():
        _put(into, name, model.fields(type_name)[name].element.max == 1, pairs)


def _read_one(
    node: etree._Element, type_name: str, narratives: list[str], depth: int
) -> tuple[Any, dict[str, Any] | None]:
    """(value, its `_` object or None)."""
    if type_name == "xhtml":
        return _read_narrative(node, narratives), None
    if model.is_a(type_name, "Resource"):
        if len(node) != 1:
            raise _at(node, f"{_local(node)} must hold one resource")
        return _read_resource(node[0], narratives, depth), None
    content: dict[str, Any] = {}
    primitive = type_name in model.PRIMITIVES
    for key, text in ((str(k), str(v)) for k, v in node.attrib.items()):
        if key in ("id", "url") and (key == "id" or type_name == "Extension"):
            content[key] = text
        elif not (key == "value" and primitive) and not key.startswith("{" + XSI):
            raise _at(node, f"{_local(node)} has no attribute {key}")
    _read_children(node, "Element" if primitive else type_name, content, narratives, depth + 1)
    if primitive:
        return _value(node.get("value"), type_name), content or None
    return content, None


def _put(into: dict[str, Any], name: str, single: bool, pairs: list[tuple[Any, Any]]) -> None:
    """The values of one element and their `_` objects, each list only where it holds anything."""
    for key, column in ((name, [p[0] for p in pairs]), (f"_{name}", [p[1] for p in pairs])):
        if any(item is not None for item in column):
            into[key] = column[0] if single else column


def _value(text: str | None, type_name: str) -> Any:
    """The JSON value of an attribute; what is not of its type stays text, and the validator says so."""
    if text is None:
        return None
    if type_name == "boolean":
        return {"true": True, "false": False}.get(text, text)
    if type_name in _INTEGERS:
        return int(text) if _INTEGER.fullmatch(text) else text
    if type_name == "decimal":
        return Decimal(text) if _NUMBER.fullmatch(text) else text
    return text


def _read_narrative(node: etree._Element, narratives: list[str]) -> str:
    """The div as written; one that a parser cannot read, or that is of another namespace, is an error."""
    number = node.get("id", "")
    if node.tag != f"{{{XHTML}}}div" or not number.startswith(_PLACE):
        raise _at(node, f"The narrative must be a div in the namespace {XHTML}")
    div = narratives[int(number.removeprefix(_PLACE))]
    try:
        root = etree.fromstring(div, _parser())
    except etree.XMLSyntaxError as error:
        raise _at(node, f"The narrative is not well-formed: {error.msg}") from None
    if root.tag != f"{{{XHTML}}}div":
        raise _at(node, f"The narrative must be a div in the namespace {XHTML}")
    return div


def _local(node: etree._Element) -> str:
    namespace, _, name = str(node.tag).rpartition("}")
    if namespace not in ("{" + FHIR, "{" + XHTML):
        raise _at(node, f"The element {name} is not in the namespace {FHIR}")
    return name


def _refuse_text(text: str | None, node: etree._Element) -> None:
    if text and not text.isspace():
        raise _at(node, f"FHIR XML has no text outside attributes, found {text.strip()[:40]!r}")


def _at(node: etree._Element, text: str) -> FhirError:
    line: Any = node.sourceline
    return _fault(text, line)


def _fault(text: str, line: int | None, column: int | None = None) -> FhirError:
    return FhirError("structure", text, issues=[Issue("error", "structure", text, (), line, column)])
