"""FHIR XML, both ways, driven by the type model (http://hl7.org/fhir/R4/xml.html).

The narrative travels as written: its text is cut out before parsing and put back untouched, so JSON → XML → JSON
is equal.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from lxml import etree

from profiles import model
from profiles.xml_narratives import XHTML, unprefixed, without_html_entities
from profiles.xml_reading import FHIR, named_type, parse_tree, parse_xml, parser, read_xml

__all__ = ["FHIR", "named_type", "parse_tree", "parse_xml", "print_xml", "read_xml"]

# Characters that JSON can hold and XML 1.0 cannot (section Characters).
_NO_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
_DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>'


def print_xml(resource: dict[str, Any], indented: bool = False) -> bytes:
    """The resource as FHIR XML in UTF-8; properties that its type does not have are left out."""
    parts = [_DECLARATION]
    _print_resource(resource, parts, f' xmlns="{FHIR}"')
    return _NO_XML.sub("\ufffd", "".join(_lines(parts) if indented else parts)).encode()


def _lines(parts: list[str]) -> Iterator[str]:
    """Each tag in a line of its own; a narrative is one part, and stays as it is."""
    depth = 0
    for part in parts:
        closing = part.startswith("</")
        depth -= closing
        yield f"{'  ' * depth}{part}\n"
        depth += not (closing or part.startswith(("<?", "<div")) or part.endswith("/>"))


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
    root = _parsed(div)
    if root is None and "&" in div:
        div = without_html_entities(div)
        root = _parsed(div)
    if root is None or root.tag != f"{{{XHTML}}}div":
        return f'<div xmlns="{XHTML}">{escape(div)}</div>'
    return div.strip() if div.lstrip().startswith("<div") else unprefixed(root)


def _parsed(div: str) -> etree._Element | None:
    try:
        return etree.fromstring(div, parser())
    except (etree.XMLSyntaxError, ValueError):
        return None
