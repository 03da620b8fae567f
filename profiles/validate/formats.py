"""What a primitive may look like (http://hl7.org/fhir/R4/datatypes.html#primitive).

PATTERNS serve the schemas, where Rust's linear regular expressions run them: each accepts a subset of what `fault`
accepts (no 29 February, no white space in base64). `fault` is the whole truth, in linear time too.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

MAX_STRING = 1024 * 1024

_YEAR = "(?:[0-9]{3}[1-9]|[0-9]{2}[1-9]0|[0-9][1-9]00|[1-9]000)"
_DAY = (
    "(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    "|02-(?:0[1-9]|1[0-9]|2[0-8]))"
)
_TIME = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:(?:[0-5][0-9]|60)(?:\.[0-9]+)?"
_ZONE = "(?:Z|[+-](?:(?:0[0-9]|1[0-3]):[0-5][0-9]|14:00))"
_MONTH = "(?:0[1-9]|1[0-2])"
_ANY_DAY = _MONTH + "-(?:0[1-9]|[12][0-9]|3[01])"
_TEXT = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f]+$"
_NO_SPACE = r"^[^\x00-\x20]+$"
_SIX_BITS = "[A-Za-z0-9+/]"

PATTERNS = {
    "base64Binary": f"^(?:{_SIX_BITS}{{4}})*(?:{_SIX_BITS}{{2}}==|{_SIX_BITS}{{3}}=|{_SIX_BITS}{{4}})$",
    "canonical": _NO_SPACE,
    "code": r"^[^\x00-\x20]+(?: [^\x00-\x20]+)*$",
    "date": f"^{_YEAR}(?:-{_MONTH}|-{_DAY})?$",
    "dateTime": f"^{_YEAR}(?:-{_MONTH}|-{_DAY}(?:T{_TIME}{_ZONE})?)?$",
    "id": r"^[A-Za-z0-9\-.]{1,64}$",
    "instant": f"^{_YEAR}-{_DAY}T{_TIME}{_ZONE}$",
    "markdown": _TEXT,
    "oid": r"^urn:oid:[0-2](?:\.(?:0|[1-9][0-9]*))+$",
    "string": _TEXT,
    "time": f"^{_TIME}$",
    "uri": _NO_SPACE,
    "url": _NO_SPACE,
    "uuid": "^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$",
    "xhtml": _TEXT,
}

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_SPACE = re.compile(r"[\x00-\x20]")
_CODE = re.compile(r"[^\x00-\x20]+(?:[\t\n\r ][^\x00-\x20]+)*")
_DATE = re.compile(f"{_YEAR}(?:-{_MONTH}|-{_ANY_DAY})?", re.ASCII)
_DATE_TIME = re.compile(f"{_YEAR}(?:-{_MONTH}|-{_ANY_DAY}(?:T{_TIME}{_ZONE})?)?", re.ASCII)
_INSTANT = re.compile(f"{_YEAR}-{_ANY_DAY}T{_TIME}{_ZONE}", re.ASCII)
_BASE64 = re.compile(f"{_SIX_BITS}*={{0,2}}")
_NO_WHITE = str.maketrans("", "", " \t\r\n")


def _text(value: str) -> str | None:
    if len(value) > MAX_STRING:
        return "is longer than 1 MB"
    return "has control characters" if _CONTROL.search(value) else None


def _xhtml(value: str) -> str | None:
    return "has control characters" if _CONTROL.search(value) else None


def _uri(value: str) -> str | None:
    return "has white space, which a URI must not have" if _SPACE.search(value) else None


def _code(value: str) -> str | None:
    return None if _CODE.fullmatch(value) else "is no code: white space only singly and inside"


def _like(name: str, text: str) -> Callable[[str], str | None]:
    pattern = re.compile(PATTERNS[name][1:-1], re.ASCII)
    return lambda value: None if pattern.fullmatch(value) else text


def _dated(pattern: re.Pattern[str], text: str) -> Callable[[str], str | None]:
    def fault(value: str) -> str | None:
        if not pattern.fullmatch(value):
            return text
        try:
            if len(value) >= 10:
                datetime.date(int(value[:4]), int(value[5:7]), int(value[8:10]))
        except ValueError:
            return "is a day that does not exist"
        return None

    return fault


def _base64(value: str) -> str | None:
    dense = value.translate(_NO_WHITE)
    return None if len(dense) % 4 == 0 and _BASE64.fullmatch(dense) else "is no base64"


_STRINGS: dict[str, Callable[[str], str | None]] = {
    "base64Binary": _base64,
    "canonical": _uri,
    "code": _code,
    "date": _dated(_DATE, "is no date: YYYY, YYYY-MM or YYYY-MM-DD"),
    "dateTime": _dated(_DATE_TIME, "is no dateTime: YYYY, YYYY-MM, YYYY-MM-DD or YYYY-MM-DDThh:mm:ss with a time zone"),
    "id": _like("id", "is no id: 1 to 64 of A-Z, a-z, 0-9, - and ."),
    "instant": _dated(_INSTANT, "is no instant: YYYY-MM-DDThh:mm:ss with a time zone"),
    "markdown": _text,
    "oid": _like("oid", "is no OID: urn:oid: and numbers joined by dots"),
    "string": _text,
    "time": _like("time", "is no time: hh:mm:ss"),
    "uri": _uri,
    "url": _uri,
    "uuid": _like("uuid", "is no UUID: urn:uuid: and 36 lower-case characters"),
    "xhtml": _xhtml,
}
INTEGERS = {"integer": -(2**31), "unsignedInt": 0, "positiveInt": 1}
MAX_INTEGER = 2**31 - 1


def fault(type_name: str, value: Any) -> tuple[str, str] | None:
    """(issue code, what is wrong) with a primitive value, or None."""
    if type_name == "boolean":
        return None if isinstance(value, bool) else ("structure", f"true or false is expected, not {kind(value)}")
    if type_name == "decimal":
        return None if is_number(value) else ("structure", f"a number is expected, not {kind(value)}")
    if type_name in INTEGERS:
        return _integer_fault(type_name, value)
    if not isinstance(value, str):
        return "structure", f"a string ({type_name}) is expected, not {kind(value)}"
    wrong = _STRINGS[type_name](value) if value else "must not be empty"
    return ("value", f"{quoted(value)} {wrong}") if wrong else None


def _integer_fault(type_name: str, value: Any) -> tuple[str, str] | None:
    if not isinstance(value, int) or isinstance(value, bool):
        return "structure", f"an integer is expected, not {quoted(str(value)) if is_number(value) else kind(value)}"
    low = INTEGERS[type_name]
    return None if low <= value <= MAX_INTEGER else ("value", f"{value} is not between {low} and {MAX_INTEGER}")


def is_number(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, int) or (isinstance(value, (Decimal, float)) and Decimal(value).is_finite())


def kind(value: Any) -> str:
    """What a JSON value is, for people."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    names: dict[type, str] = {dict: "an object", list: "an array", str: "a string"}
    return names.get(type(value), "a number")


def quoted(value: str) -> str:
    return f"'{value}'" if len(value) <= 80 else f"'{value[:77]}...'"
