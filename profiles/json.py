"""FHIR's JSON, read strictly and written back digit for digit (http://hl7.org/fhir/R4/json.html).

A UTF-8 byte order mark is skipped; any other encoding than UTF-8 is refused. Decimals are `decimal.Decimal` and print
the digits they were read with, integers are int. Duplicate keys, NaN, lone surrogates, U+0000 and more than 64 levels
are refused. What the server wrote itself is read by `decode`, which refuses nothing.
"""

from __future__ import annotations

import json as slow_json
import re
from decimal import Decimal
from typing import Any

import msgspec

from profiles.outcome import FhirError, Issue

MAX_DEPTH = 64
MAX_DIGITS = 400  # of a number; sums and comparisons of longer ones cost milliseconds
MAX_EXPONENT = 400  # int(Decimal("1e300000")) takes five seconds

BOM = b"\xef\xbb\xbf"
OFFSET = re.compile(r" \(byte (\d+)\)$")
NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
LONE = re.compile(rb"(?<!\\)(?:\\\\)*(\\u[dD](?:[c-fC-F]..|[89abAB]..(?!\\u[dD][c-fC-F])))")
HEAD = re.compile(rb'\s*\{\s*"resourceType"\s*:\s*"([A-Za-z]{1,60})"')
KEY = re.compile(rb'("(?:[^"\\]|\\.)*")\s*:', re.DOTALL)


class Literal(Decimal):
    """A decimal whose text Decimal would print otherwise (`1.0e3`, `0.00000001`): `str` gives what was read."""

    __slots__ = ("text",)
    text: str

    def __new__(cls, text: str) -> Literal:
        self = super().__new__(cls, text)
        self.text = text
        return self

    def __str__(self) -> str:
        return self.text


class _Refused(ValueError):
    """A number no server should calculate with."""


class _Named(msgspec.Struct):
    """What is looked at where only the type of a text is asked for."""

    resourceType: str = ""


def decimal(text: str) -> Decimal:
    """The number with the digits it is written with; ValueError for one beyond the limits."""
    if len(text) > MAX_DIGITS or ("e" in text.lower() and abs(_exponent(text)) > MAX_EXPONENT):
        raise _Refused(f"the number {text[:40]} is beyond the limits ({MAX_DIGITS} digits, exponent {MAX_EXPONENT})")
    return _as_written(text)


def _as_written(text: str) -> Decimal:
    value = Decimal(text)
    return value if str(value) == text else Literal(text)


def _exponent(text: str) -> int:
    digits = text.lower().partition("e")[2]
    return int(digits) if len(digits) < 8 else MAX_EXPONENT + 1


def _literal(value: Any) -> msgspec.Raw:
    if isinstance(value, Literal):
        return msgspec.Raw(value.text.encode())
    raise TypeError(f"{type(value).__name__} is no JSON value")


_decoder = msgspec.json.Decoder(float_hook=decimal)
_own_decoder = msgspec.json.Decoder(float_hook=_as_written)
_name_decoder = msgspec.json.Decoder(_Named)
_encoder = msgspec.json.Encoder(decimal_format="number", enc_hook=_literal)


def encode(resource: Any) -> bytes:
    """Compact JSON: non-ASCII as is, decimals with the digits they were read with."""
    return _encoder.encode(resource)


def decode(body: bytes) -> Any:
    """What `encode` wrote, stored or in a Bundle around stored bodies: the limits are for what comes in."""
    try:
        return _own_decoder.decode(body)
    except msgspec.ValidationError:  # an integer of more than 4,300 digits, from before XML had a limit
        return slow_json.loads(body, parse_float=_as_written, parse_int=Decimal)


def named_type(raw: bytes) -> str:
    """The resourceType of the outermost object, "" where there is none; of what is no JSON the one it begins with."""
    raw = raw.removeprefix(BOM)
    try:
        return _name_decoder.decode(raw).resourceType
    except msgspec.ValidationError:
        return ""
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = HEAD.match(raw)
        return found[1].decode() if found else ""


def pretty(body: bytes) -> bytes:
    """The same JSON text, indented by two."""
    return msgspec.json.format(body, indent=2)


def parse(raw: bytes) -> Any:
    """The object or array in `raw`; FhirError `structure` (400) with line and column otherwise."""
    if raw.startswith(BOM):
        raw = raw[3:]
    try:
        value = _decoder.decode(raw)
    except RecursionError:
        raise _fault(raw, _too_deep_at(raw), f"nested deeper than {MAX_DEPTH} levels") from None
    except (msgspec.MsgspecError, UnicodeDecodeError, _Refused) as error:
        raise _explain(raw, error) from None
    if not isinstance(value, (dict, list)):
        raise _fault(raw, 0, "a JSON object is expected")
    _check_depth(raw, value)
    _check_keys(raw, value)
    if b"\\u0000" in raw and (found := NUL.search(raw)):
        raise _fault(raw, found.end() - 6, "the character U+0000 is not allowed in FHIR")
    return value


def _check_depth(raw: bytes, value: Any) -> None:
    """Refuse more than 64 levels; text with few brackets cannot be that deep."""
    if raw.count(b"{") + raw.count(b"[") > MAX_DEPTH and _is_too_deep(value):
        raise _fault(raw, _too_deep_at(raw), f"nested deeper than {MAX_DEPTH} levels")


def check_depth(resource: Any) -> None:
    """The same limit for a resource that was not read from JSON but from XML, or made by a patch."""
    if _is_too_deep(resource):
        raise FhirError("structure", f"The resource is nested deeper than {MAX_DEPTH} levels of JSON")


def _is_too_deep(value: Any) -> bool:
    """Whether there are more than 64 levels, level by level (3 ms a megabyte)."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [v for c in level for v in (c.values() if type(c) is dict else c) if type(v) is dict or type(v) is list]
        if not level:
            return False
    return True


def _too_deep_at(raw: bytes) -> int:
    """Offset of the first bracket beyond the limit."""
    depth = 0
    blank = STRING.sub(lambda m: b" " * len(m[0]), raw)
    for found in re.finditer(rb"[{}\[\]]", blank):
        depth += 1 if found[0] in b"{[" else -1
        if depth > MAX_DEPTH:
            return found.start()
    return 0


def _check_keys(raw: bytes, value: Any) -> None:
    """Refuse duplicate keys: a lost one makes the text shorter when it is printed again.

    Where only escapes differ, keys are counted (`":` can be nothing else in minified JSON, unless quotes are written
    as code points); where that misleads too, the text is read again, slowly and exactly.
    """
    printed = _encoder.encode(value)
    if printed == raw or printed == (dense := msgspec.json.format(raw, indent=-1)):
        return
    if b"\\u0022" not in raw and dense.count(b'":') == printed.count(b'":'):
        return
    slow_json.loads(raw, object_pairs_hook=_no_duplicates(raw), parse_float=str, parse_int=str)


def _no_duplicates(raw: bytes) -> Any:
    def check(pairs: list[tuple[str, Any]]) -> None:
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _fault(raw, _last_key(raw, key), f"the property '{key[:80]}' occurs twice in one object")
            seen.add(key)

    return check


def _last_key(raw: bytes, key: str) -> int:
    """Offset of the last property of that name: the second of the twins when the name is not used again later."""
    places = [m.start() for m in KEY.finditer(raw) if slow_json.loads(m[1]) == key]
    return places[-1] if places else 0


def _explain(raw: bytes, error: Exception) -> FhirError:
    """Where msgspec stopped, in words; it calls a lone surrogate and a cut text the same."""
    if isinstance(error, UnicodeDecodeError):
        return _fault(raw, _bad_utf8(raw), "the text is not valid UTF-8")
    if isinstance(error, _Refused):
        return _fault(raw, None, str(error))
    if "out of range" in str(error):
        return _fault(raw, None, "a number is beyond the limits of this server")
    if ("truncated" in str(error) or "surrogate" in str(error)) and (found := LONE.search(raw)):
        return _fault(raw, found.start(1), "half of a surrogate pair is no character")
    where = OFFSET.search(str(error))
    text = OFFSET.sub("", str(error)).removeprefix("JSON is malformed: ")
    return _fault(raw, int(where[1]) if where else len(raw), text)


def _bad_utf8(raw: bytes) -> int:
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        return error.start
    return 0


def _fault(raw: bytes, offset: int | None, text: str) -> FhirError:
    if offset is None:
        return FhirError("structure", f"This is not JSON that FHIR allows: {text}")
    line = raw.count(b"\n", 0, offset) + 1
    column = len(raw[raw.rfind(b"\n", 0, offset) + 1 : offset].decode(errors="replace")) + 1
    said = f"This is not JSON that FHIR allows: {text} (line {line}, column {column})"
    return FhirError("structure", said, issues=[Issue("error", "structure", said, (), line, column)])
