"""Where each element of an XML text begins (http://hl7.org/fhir/R4/xml.html)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from profiles.model import RESOURCE_TYPES, fields

TOKEN = re.compile(
    rb"""<!--.*?-->|<!\[CDATA\[.*?\]\]>|<\?.*?\?>|<(?P<close>/?)(?P<name>[\w:.-]+)(?:[^<>"']|"[^"<]*"|'[^'<]*')*>""",
    re.DOTALL,
)


@dataclass(slots=True)
class _Open:
    """An element that is being read: its type, its expression, how often each name came below it."""

    type: str
    path: str
    counts: dict[str, int] = field(default_factory=dict)


def xml_offsets(raw: bytes) -> Iterator[tuple[str, int]]:
    """(expression, offset) of every element, an outer one before those in it."""
    stack: list[_Open] = []
    for token in TOKEN.finditer(raw):
        if token["name"] is None:
            continue
        if token["close"]:
            if stack:
                stack.pop()
            continue
        found = _entered(stack[-1] if stack else None, token["name"].rpartition(b":")[2].decode(errors="replace"))
        yield found.path, token.start()
        if not token[0].endswith(b"/>"):
            stack.append(found)


def _entered(top: _Open | None, name: str) -> _Open:
    """What begins here: a resource keeps the expression of the element that holds it."""
    if top is None:
        return _Open(name, name)
    if top.type == "Resource" and name in RESOURCE_TYPES:
        return _Open(name, top.path)
    known = fields(top.type).get(name)
    if known is None:
        return _Open("", f"{top.path}.{name}")
    path = f"{top.path}.{known.element.name}"
    if known.element.max != 1:
        number = top.counts.get(name, 0)
        top.counts[name] = number + 1
        path = f"{path}[{number}]"
    return _Open(known.type, path)
