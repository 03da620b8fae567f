"""XML Patch (RFC 5261) on the XML form of a resource: pure, driven by the selectors the RFC allows.

Names without a prefix are of the patch's default namespace (RFC 5261 §4.2.2); the prefix `f` is FHIR's.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from lxml import etree

from profiles.outcome import FhirError
from profiles.patch.json_patch import MAX_OPERATIONS
from profiles.xml import FHIR, parse_tree, parse_xml, print_xml

MAX_SELECTOR = 1_000

_NAME = r"(?:[A-Za-z_][\w.-]*:)?[A-Za-z_][\w.-]*"
_TEXT = r"""(?:"[^"]*"|'[^']*')"""
_STEP = rf"(?:{_NAME}|\*|comment\(\)|text\(\))(?:\[(?:[0-9]{{1,6}}|@{_NAME}={_TEXT}|{_NAME}(?:/@{_NAME})?={_TEXT})\])*"
# The subset of XPath of RFC 5261 §4.1: no //, no axes, no functions, so a selector costs what its path costs.
_SELECTOR = re.compile(rf"/?{_STEP}(?:/{_STEP})*(?:/@{_NAME})?", re.ASCII)
_BARE = re.compile(rf"""({_TEXT})|(?<![\w:@.-])([A-Za-z_][\w.-]*)(?![\w.-]*[:(])""", re.ASCII)


def xml_patch(resource: dict[str, Any], raw: bytes) -> dict[str, Any]:
    """The resource with the operations of an XML Patch document applied in order, all or none.

    Errors: `invalid` for a patch that cannot be read, `processing` (422) for one that does not fit the resource.
    """
    return parse_xml(etree.tostring(patch_tree(parse_tree(print_xml(resource)), parse_tree(raw))))


def patch_tree(root: etree._Element, patch: etree._Element) -> etree._Element:
    """Applies each operation of the patch document to the tree and returns its root."""
    operations = [e for e in patch if isinstance(e.tag, str)]
    if not operations:
        raise FhirError("invalid", "The XML Patch holds no operation")
    if len(operations) > MAX_OPERATIONS:
        raise FhirError("too-costly", f"A patch may hold {MAX_OPERATIONS} operations, this one has {len(operations)}")
    for place, operation in enumerate(operations):
        name = etree.QName(operation).localname
        if name not in OPERATIONS:
            raise FhirError("invalid", f"Operation {place} of the patch: {name} is not one of {', '.join(OPERATIONS)}")
        OPERATIONS[name](_select(root, operation, place), operation, place)
    return root


def _select(root: etree._Element, operation: etree._Element, place: int) -> Any:
    """The one node that `sel` names: an element, an attribute or a text."""
    selector = (operation.get("sel") or "").strip()
    if len(selector) > MAX_SELECTOR or not _SELECTOR.fullmatch(selector):
        raise FhirError("invalid", f"Operation {place} of the patch: {selector[:80]!r} is not a selector of RFC 5261")
    names = {str(k): str(v) for k, v in operation.nsmap.items() if k} | {
        "f": FHIR,
        "default": operation.nsmap.get(None, FHIR),
    }
    path = "/" + _BARE.sub(lambda m: m[1] or f"default:{m[2]}", selector.removeprefix("/"))
    try:
        found = root.getroottree().xpath(path, namespaces=names)
    except etree.XPathError as error:
        raise FhirError("invalid", f"Operation {place} of the patch: {selector[:80]!r}: {error}") from None
    if not isinstance(found, list) or len(found) != 1:
        count = len(found) if isinstance(found, list) else 0
        raise FhirError("processing", f"Operation {place} of the patch: {selector[:80]!r} names {count} nodes, not one")
    return found[0]


def _misfit(place: int, text: str) -> FhirError:
    return FhirError("processing", f"Operation {place} of the patch: {text}")


def _add(node: Any, operation: etree._Element, place: int) -> None:
    if not isinstance(node, etree._Element):
        raise _misfit(place, "add needs an element")
    kind = operation.get("type", "")
    if kind.startswith("@"):
        _set_attribute(node, kind[1:], operation)
    elif kind.startswith("namespace::"):
        pass  # a declaration has no place in a resource: its XML is written anew from the model
    elif kind:
        raise FhirError(
            "invalid", f"Operation {place} of the patch: type {kind!r} is neither an attribute nor a namespace"
        )
    else:
        _add_nodes(node, operation, place)


def _add_nodes(node: etree._Element, operation: etree._Element, place: int) -> None:
    position = operation.get("pos", "")
    if position not in POSITIONS:
        known = ", ".join(name for name in POSITIONS if name)
        raise FhirError("invalid", f"Operation {place} of the patch: pos {position!r} is not one of {known}")
    if position in ("before", "after") and node.getparent() is None:
        raise _misfit(place, f"nothing can stand {position} the resource")
    POSITIONS[position](node, operation)


def _set_attribute(node: etree._Element, name: str, operation: etree._Element) -> None:
    prefix, _, local = name.rpartition(":")
    node.set(
        f"{{{operation.nsmap[prefix]}}}{local}" if prefix in operation.nsmap and prefix else local, operation.text or ""
    )


def _append(node: etree._Element, operation: etree._Element) -> None:
    """As the last children: text first, then nodes."""
    if operation.text:
        if len(node):
            node[-1].tail = (node[-1].tail or "") + operation.text
        else:
            node.text = (node.text or "") + operation.text
    node.extend(list(operation))


def _prepend(node: etree._Element, operation: etree._Element) -> None:
    for child in reversed(list(operation)):
        node.insert(0, child)


def _before(node: etree._Element, operation: etree._Element) -> None:
    for child in list(operation):
        node.addprevious(child)
        child.tail = None


def _after(node: etree._Element, operation: etree._Element) -> None:
    for child in reversed(list(operation)):
        node.addnext(child)
        child.tail = None


def _replace(node: Any, operation: etree._Element, place: int) -> None:
    if isinstance(node, etree._Element):
        parent, children = node.getparent(), list(operation)
        if parent is None or len(children) != 1:
            raise _misfit(place, "replace needs one node for an element inside the resource")
        children[0].tail = node.tail
        parent.replace(node, children[0])
    else:
        _set_text(node, operation.text or "")


def _remove(node: Any, operation: etree._Element, place: int) -> None:
    if not isinstance(node, etree._Element):
        _set_text(node, None)
        return
    parent = node.getparent()
    if parent is None:
        raise _misfit(place, "the whole resource cannot be removed")
    before = node.getprevious()
    if node.tail and before is not None:
        before.tail = (before.tail or "") + node.tail
    elif node.tail:
        parent.text = (parent.text or "") + node.tail
    parent.remove(node)


def _set_text(found: Any, text: str | None) -> None:
    """Sets or removes an attribute or a text that XPath found."""
    owner = found.getparent()
    if found.is_attribute:
        if text is None:
            del owner.attrib[found.attrname]
        else:
            owner.set(found.attrname, text)
    elif found.is_tail:
        owner.tail = text
    else:
        owner.text = text


POSITIONS: dict[str, Callable[[etree._Element, etree._Element], None]] = {
    "": _append,
    "prepend": _prepend,
    "before": _before,
    "after": _after,
}
OPERATIONS: dict[str, Callable[[Any, etree._Element, int], None]] = {
    "add": _add,
    "replace": _replace,
    "remove": _remove,
}
