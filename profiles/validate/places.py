"""Line and column of issues in the text that was sent (http://hl7.org/fhir/R4/operationoutcome.html)."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from profiles.model import Field, fields
from profiles.outcome import Issue
from profiles.validate.xml_places import xml_offsets

TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}\[\]:,]|[^\s{}\[\]:,"]+', re.DOTALL)


@dataclass(slots=True)
class _Open:
    """An object or array that is being read: its type, its expression, and where in it the reader is."""

    type: str
    path: str
    is_array: bool
    field: Field | None = None
    index: int = 0
    key: str | None = None


def with_places(issues: Iterable[Issue], raw: bytes, inside: str = "") -> list[Issue]:
    """The issues with the line and column of the nearest element that the text, JSON or XML, has.

    `inside` is where in the text the resource stands that the issues are of: `Parameters.parameter[0].resource`.
    """
    found = list(issues)
    if all(i.line is not None for i in found):
        return found
    offsets = dict(xml_offsets(raw) if raw.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"<" else _offsets(raw))
    breaks = [m.start() for m in re.finditer(rb"\n", raw)]
    return [_placed(i, offsets, breaks, raw, inside) if i.line is None else i for i in found]


def with_expressions(issues: Iterable[Issue], raw: bytes, whole: str = "Resource") -> list[Issue]:
    """The issues of a text that cannot be read, each with the expression of the last element begun before it.

    Where nothing has begun it is that of the `whole`.
    """
    found = list(issues)
    if all(issue.expression or issue.line is None for issue in found):
        return found
    offsets = list(xml_offsets(raw) if raw.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"<" else _offsets(raw))
    return [
        issue if issue.expression else replace(issue, expression=(_before(issue, offsets, raw) or whole,))
        for issue in found
    ]


def _before(issue: Issue, offsets: list[tuple[str, int]], raw: bytes) -> str:
    starts = [0, *(m.end() for m in re.finditer(rb"\n", raw))]
    line = min(issue.line or 1, len(starts))
    start = starts[line - 1]
    said = raw[start : starts[line] if line < len(starts) else len(raw)].decode(errors="replace")
    end = start + len(said[: max((issue.column or 1) - 1, 0)].encode())
    begun = [path for path, offset in offsets if offset <= end and path]
    return begun[-1].removesuffix(".resourceType") if begun else ""


def _placed(issue: Issue, offsets: dict[str, int], breaks: list[int], raw: bytes, inside: str) -> Issue:
    path = issue.expression[0] if issue.expression else ""
    if inside:
        path = inside + path[path.find(".") :] if "." in path else inside
    while path and path not in offsets:
        path = path.removesuffix("]").rpartition("[" if path.endswith("]") else ".")[0]
    offset = offsets.get(path, 0)
    row = bisect_right(breaks, offset - 1)
    start = breaks[row - 1] + 1 if row else 0
    return replace(issue, line=row + 1, column=len(raw[start:offset].decode(errors="replace")) + 1)


def _offsets(raw: bytes) -> Iterator[tuple[str, int]]:
    """(expression, offset) of every value, an object's before those in it."""
    stack: list[_Open] = []
    for token in TOKEN.finditer(raw):
        text = token[0]
        if text in (b"}", b"]"):
            if stack:
                stack.pop()
        elif text == b",":
            _next(stack)
        elif text != b":":
            top = stack[-1] if stack else None
            if top and not top.is_array and top.key is None:
                top.key = _key(text)
                continue
            inner = _value(top, raw, token.start())
            yield inner.path, token.start()
            if text in (b"{", b"["):
                inner.is_array = text == b"["
                stack.append(inner)


def _next(stack: list[_Open]) -> None:
    if stack:
        stack[-1].index += 1
        stack[-1].key = None


def _key(text: bytes) -> str:
    try:
        return str(msgspec.json.decode(text))
    except msgspec.MsgspecError:
        return text.decode(errors="replace")


def _value(top: _Open | None, raw: bytes, offset: int) -> _Open:
    """What stands at this place: the whole resource, an item of an array, or the value of a property."""
    if top is None:
        kind = _resource_type(raw, offset)
        return _Open(kind, kind, False)
    if top.is_array:
        kind = _resource_type(raw, offset) if top.type == "Resource" else top.type
        return _Open(kind, f"{top.path}[{top.index}]", False, top.field)
    name = (top.key or "").removeprefix("_")
    field = fields(top.type).get(name)
    if field is None:
        return _Open("", f"{top.path}.{top.key}", False)
    kind = "Element" if (top.key or "").startswith("_") else field.type
    if kind == "Resource" and field.element.max == 1:
        kind = _resource_type(raw, offset)
    return _Open(kind, f"{top.path}.{field.element.name}", False, field)


def _resource_type(raw: bytes, offset: int) -> str:
    """The resourceType of the object that begins here: its own, not one of a resource in it."""
    depth = 0
    wanted = False
    for token in TOKEN.finditer(raw, offset):
        text: Any = token[0]
        if wanted and text != b":":
            return _key(text)
        depth += (text in (b"{", b"[")) - (text in (b"}", b"]"))
        wanted = wanted or (depth == 1 and text == b'"resourceType"')
        if depth == 0:
            break
    return ""
