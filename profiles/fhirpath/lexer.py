"""Tokens of FHIRPath (http://hl7.org/fhirpath/N1, Lexical Elements)."""

from __future__ import annotations

import re
from typing import NamedTuple

from profiles.fhirpath.errors import FhirPathError

MAX_LENGTH = 10_000


class Token(NamedTuple):
    """One token: the kind (a group of _TOKEN, or `end`), the text without quotes and escapes, the offset."""

    kind: str
    text: str
    at: int


_TIME = r"\d\d(?::\d\d(?::\d\d(?:\.\d+)?)?)?"
_ZONE = r"(?:Z|[+-]\d\d:\d\d)"
_DATE = r"\d{4}(?:-\d\d(?:-\d\d)?)?"
# Written here, bounded and free of nested repetition: Python's re is safe for it.
_TOKEN = re.compile(
    rf"""
    (?P<space>[ \t\r\n]+ | //[^\r\n]* | /\*.*?\*/)
  | (?P<datetime>@{_DATE}T(?:{_TIME}{_ZONE}?)?)
  | (?P<time>@T{_TIME})
  | (?P<date>@{_DATE})
  | (?P<long>\d+L\b)
  | (?P<number>\d+(?:\.\d+)?)
  | (?P<variable>%(?:[A-Za-z_]\w* | `(?:\\.|[^`\\])*` | '(?:\\.|[^'\\])*' | "(?:\\.|[^"\\])*"))
  | (?P<name>[A-Za-z_]\w*)
  | (?P<delimited>`(?:\\.|[^`\\])*`)
  | (?P<string>'(?:\\.|[^'\\])*')
  | (?P<special>\$(?:this|index|total)\b)
  | (?P<symbol><=|>=|!=|!~|[-+*/&|<>=~.,()\[\]{{}}])
    """,
    re.VERBOSE | re.DOTALL | re.ASCII,
)
# Two code units of a surrogate pair are one character, so they are read together.
_PAIR = r"u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_ESCAPE = re.compile(rf"\\({_PAIR}|u[0-9a-fA-F]{{4}}|.)", re.DOTALL)
_ESCAPES = {"f": "\f", "n": "\n", "r": "\r", "t": "\t", **{c: c for c in "\\/'`\""}}


def tokens(expression: str) -> list[Token]:
    """All tokens of the expression and an `end`; raises FhirPathError with the offset at fault."""
    if len(expression) > MAX_LENGTH:
        raise FhirPathError(f"The FHIRPath expression is longer than {MAX_LENGTH} characters", "too-costly")
    out: list[Token] = []
    at = 0
    while at < len(expression):
        match = _TOKEN.match(expression, at)
        if match is None:
            raise FhirPathError(f"Unexpected {expression[at]!r} at offset {at} of the FHIRPath expression")
        kind = match.lastgroup or ""
        if kind != "space":
            out.append(_token(kind, match.group(), at))
        at = match.end()
    out.append(Token("end", "", at))
    return out


def _token(kind: str, text: str, at: int) -> Token:
    if kind in ("string", "delimited"):
        return Token(kind, unescape(text[1:-1], at), at)
    if kind == "variable":
        quoted = text[1] in "`'\""
        return Token(kind, unescape(text[2:-1], at) if quoted else text[1:], at)
    return Token(kind, text, at)


def unescape(text: str, at: int = 0) -> str:
    """The text with FHIRPath's escapes replaced; before any other character a backslash is ignored (section String)."""
    if "\\" not in text:
        return text

    def plain(match: re.Match[str]) -> str:
        code = match.group(1)
        if len(code) == 1:
            return _ESCAPES.get(code, code)
        try:
            return b"".join(int(unit, 16).to_bytes(2) for unit in code[1:].split("\\u")).decode("utf-16-be")
        except UnicodeDecodeError as error:
            raise FhirPathError(f"\\{code} is half a character, in the string at offset {at}") from error

    return _ESCAPE.sub(plain, text)
