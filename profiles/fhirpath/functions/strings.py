"""Strings (N1 section 5.6); regular expressions run under RE2, whose time is linear."""

from __future__ import annotations

import base64
import binascii
import html
import json
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import re2

from profiles.fhirpath.errors import FhirPathError
from profiles.fhirpath.functions.conversion import text, texts
from profiles.fhirpath.functions.row import Function
from profiles.fhirpath.lexer import unescape
from profiles.fhirpath.nodes import Collection, Scope, boolean, integer, string, whole
from profiles.fhirpath.operators import MAX_TEXT

_WHITE = " \t\r\n"
_GROUP = re.compile(r"\$(?:\{(\w+)\}|(\d+))|\\(\d)|\\(.)", re.ASCII | re.DOTALL)
_OPTIONS = re2.Options()
_OPTIONS.dot_nl = True
_OPTIONS.log_errors = False
_OPTIONS.max_mem = 8 << 20


def _on_text(name: str, apply: Callable[..., Collection]) -> Callable[..., Collection]:
    """A function on the single input string and string arguments; empty when any of them is."""

    def run(scope: Scope, items: Collection, *args: Collection) -> Collection:
        values = [text(part, f"{name}()") for part in (items, *args)]
        if any(value is None for value in values):
            return []
        scope.run.spend(1 + sum(len(value or "") for value in values) // 100)
        return apply(*values)

    return run


def _limited(value: str) -> Collection:
    if len(value) > MAX_TEXT:
        raise FhirPathError(f"A text grew over {MAX_TEXT} characters", "too-costly")
    return [string(value)]


def _last_index(value: str, part: str) -> Collection:
    return [integer(value.rfind(part))]


def _substring(scope: Scope, items: Collection, start: Collection, length: Collection | None = None) -> Collection:
    value, at = text(items, "substring()"), whole(start, "substring()")
    if value is None or at is None:
        return []
    size = whole(length, "substring()") if length is not None else None
    if not 0 <= at < len(value):
        return []
    return [string(value[at:] if size is None else value[at : at + max(size, 0)])]


def _replace(value: str, part: str, by: str) -> Collection:
    if (len(value) + 1) * len(by) > 4 * MAX_TEXT:
        raise FhirPathError(f"A text grew over {MAX_TEXT} characters", "too-costly")
    return _limited(value.replace(part, by))


@lru_cache(maxsize=512)
def pattern(regex: str, flags: str = "") -> Any:
    """The compiled expression in single-line mode; `(?<name>` is RE2's `(?P<name>`; flags are i and m."""
    if set(flags) - {"i", "m"}:
        raise FhirPathError(f"The flags of a regular expression are i and m, not {flags!r}")
    try:
        text = regex.replace("(?<", "(?P<") if "(?<" in regex and "(?<=" not in regex else regex
        return re2.compile(f"(?{flags}){text}" if flags else text, _OPTIONS)
    except re2.error as error:
        raise FhirPathError(f"The regular expression {regex[:100]!r} cannot be used: {error}") from error


@lru_cache(maxsize=128)
def tester(regex: str) -> Callable[[str], bool]:
    """Whether a text matches: a set of one expression tells it in a fifth of the time that finding the place takes."""
    known = re2.Set.SearchSet(_OPTIONS)
    known.Add(pattern(regex).pattern)
    known.Compile()
    match = known.Match
    return lambda text: bool(match(text))


def _replace_matches(value: str, regex: str, by: str, flags: str = "") -> Collection:
    if not regex:
        return [string(value)]
    found = pattern(regex, flags)
    left = MAX_TEXT

    def expand(match: Any) -> str:
        nonlocal left
        out = _GROUP.sub(lambda m: _group(match, m), by)
        left -= len(out)
        if left < 0:
            raise FhirPathError(f"A text grew over {MAX_TEXT} characters", "too-costly")
        return out

    return _limited(found.sub(expand, value))


def _group(match: Any, reference: re.Match[str]) -> str:
    """What `$1`, `${name}` or `\\1` stands for in a substitution; other escapes lose their backslash."""
    name, number, old, other = reference.groups()
    if other is not None:
        return other
    try:
        return match.group(name if name and not name.isdigit() else int(name or number or old)) or ""
    except (IndexError, KeyError, re2.error):
        return reference.group()


_FROM_URL = str.maketrans("-_", "+/")
_ENCODERS: dict[str, Callable[[str], str]] = {
    "hex": lambda value: value.encode().hex(),
    "base64": lambda value: base64.b64encode(value.encode()).decode(),
    "urlbase64": lambda value: base64.urlsafe_b64encode(value.encode()).decode(),
    "ascii": lambda value: value.encode("ascii", "replace").decode(),
}
_DECODERS: dict[str, Callable[[str], bytes]] = {
    "hex": bytes.fromhex,
    "base64": lambda value: base64.b64decode(value, validate=True),
    "urlbase64": lambda value: base64.b64decode(value.translate(_FROM_URL), validate=True),
}
_ESCAPERS: dict[str, Callable[[str], str]] = {
    "html": html.escape,
    "json": lambda value: json.dumps(value, ensure_ascii=False)[1:-1],
}


def _unescape_json(value: str) -> str:
    return unescape(value) if "\\" in value else value


_UNESCAPERS: dict[str, Callable[[str], str]] = {"html": html.unescape, "json": _unescape_json}


def _by_format(table: dict[str, Callable[[str], str]]) -> Callable[[str, str], Collection]:
    def apply(value: str, name: str = "") -> Collection:
        convert = table.get(name)
        return [] if convert is None else _limited(convert(value))

    return apply


def _decode(value: str, name: str = "") -> Collection:
    """The text the encoded one stands for; what is no UTF-8 has none."""
    decoder = _DECODERS.get(name)
    if decoder is None:
        return []
    try:
        return [string(decoder(value).decode())]
    except UnicodeDecodeError:
        return []
    except (binascii.Error, ValueError) as error:
        raise FhirPathError(f"The text is not {name}") from error


def _split(value: str, separator: str) -> Collection:
    return texts(value.split(separator) if separator else list(value))


def _join(scope: Scope, items: Collection, separator: Collection | None = None) -> Collection:
    between = text(separator, "join()") if separator is not None else ""
    parts = [text([node], "join()") or "" for node in items]
    scope.run.spend(len(parts))
    return _limited((between or "").join(parts)) if parts else []


def _row(name: str, apply: Callable[..., Collection], args: int = 0, most: int = 0) -> Function:
    return Function(_on_text(name, apply), "values" if args or most else "nothing", args, max(args, most))


FUNCTIONS = {
    "indexOf": _row("indexOf", lambda value, part: [integer(value.find(part))], 1),
    "lastIndexOf": _row("lastIndexOf", _last_index, 1),
    "substring": Function(_substring, "values", 1, 2),
    "startsWith": _row("startsWith", lambda value, part: boolean(value.startswith(part)), 1),
    "endsWith": _row("endsWith", lambda value, part: boolean(value.endswith(part)), 1),
    "contains": _row("contains", lambda value, part: boolean(part in value), 1),
    "upper": _row("upper", lambda value: [string(value.upper())]),
    "lower": _row("lower", lambda value: [string(value.lower())]),
    "replace": _row("replace", _replace, 2),
    "matches": _row("matches", lambda value, *regex: boolean(pattern(*regex).search(value) is not None), 1, 2),
    "matchesFull": _row(
        "matchesFull", lambda value, *regex: boolean(pattern(*regex).fullmatch(value) is not None), 1, 2
    ),
    "replaceMatches": _row("replaceMatches", _replace_matches, 2, 3),
    "length": _row("length", lambda value: [integer(len(value))]),
    "toChars": _row("toChars", lambda value: texts(list(value))),
    "encode": _row("encode", _by_format(_ENCODERS), 0, 1),
    "decode": _row("decode", _decode, 0, 1),
    "escape": _row("escape", _by_format(_ESCAPERS), 0, 1),
    "unescape": _row("unescape", _by_format(_UNESCAPERS), 0, 1),
    "trim": _row("trim", lambda value: [string(value.strip(_WHITE))]),
    "split": _row("split", _split, 1),
    "join": Function(_join, "values", 0, 1),
}
