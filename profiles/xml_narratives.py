"""A narrative's div in the one form that JSON and XML share: HTML's own namespace, no prefixes (R4 narrative.html)."""

from __future__ import annotations

import re
from html.entities import html5
from typing import Any

from lxml import etree

XHTML = "http://www.w3.org/1999/xhtml"
_ENTITY = re.compile(r"&([A-Za-z][A-Za-z0-9]*;)", re.ASCII)
_NAMES: Any = {None: XHTML}
_OF_XML = frozenset(("amp;", "lt;", "gt;", "quot;", "apos;"))


def unprefixed(div: etree._Element) -> str:
    """The div as text that stands alone, `<h:div>` as `<div>`; what follows it does not belong to it."""
    return etree.tostring(_renewed(div), encoding="unicode", with_tail=False)


def _renewed(node: etree._Element) -> etree._Element:
    attributes = {str(name): str(value) for name, value in node.attrib.items()}
    made = etree.Element(node.tag, attributes, nsmap=_NAMES)
    made.text = node.text
    for child in node:
        if isinstance(child.tag, str):
            made.append(_renewed(child))
            made[-1].tail = child.tail
        else:
            _append_text(made, child.tail)
    return made


def _append_text(node: etree._Element, text: str | None) -> None:
    """The text after a comment that is left out."""
    if len(node):
        node[-1].tail = (node[-1].tail or "") + (text or "")
    else:
        node.text = (node.text or "") + (text or "")


def without_html_entities(text: str) -> str:
    """`&nbsp;` and its like as the characters they name: XML knows only five of them by name."""
    return _ENTITY.sub(lambda found: found[0] if found[1] in _OF_XML else html5.get(found[1], found[0]), text)
