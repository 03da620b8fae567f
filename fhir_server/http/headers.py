"""Header values, read and written: pure (http://hl7.org/fhir/R4/http.html, RFC 9110)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache

from profiles.outcome import FhirError

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

RETURNS = ("minimal", "representation", "OperationOutcome")
HANDLINGS = ("strict", "lenient")


@dataclass(frozen=True, slots=True)
class Prefer:
    """The preferences of RFC 7240 that FHIR names; what the client did not say is None or False."""

    answer: str | None = None
    handling: str | None = None
    respond_async: bool = False


PLAIN = Prefer()


def combined(rows: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Headers, lines of one name as one list (RFC 9110 §5.3); where only one value is allowed, the list is refused."""
    found: dict[str, str] = {}
    for name, value in ((name.decode("latin-1"), value.decode("latin-1")) for name, value in rows):
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def as_utf8(value: str) -> str:
    """What a client wrote in UTF-8 without percent signs, as curl does; as it is where it is none (RFC 9110 §5.5)."""
    try:
        return value.encode("latin-1").decode()
    except UnicodeDecodeError:
        return value


def prefer(value: str | None) -> Prefer:
    """Read `Prefer`; preferences that nobody knows are ignored, as RFC 7240 says."""
    if not value:
        return PLAIN
    said: dict[str, str] = {}
    for part in value.replace(";", ",").split(","):
        name, _, text = part.strip().partition("=")
        said.setdefault(name.strip().lower(), text.strip().strip('"'))
    answers = {known.lower(): known for known in RETURNS}
    handling = said.get("handling", "").lower()
    return Prefer(
        answers.get(said.get("return", "").lower()),
        handling if handling in HANDLINGS else None,
        "respond-async" in said,
    )


@dataclass(frozen=True, slots=True)
class Media:
    """A media range with its quality: `application/fhir+json;q=0.8`."""

    name: str
    quality: float = 1.0
    parameters: tuple[tuple[str, str], ...] = ()

    def parameter(self, name: str) -> str | None:
        """The value of a parameter, None where it is absent."""
        return next((value for known, value in self.parameters if known == name), None)


def media(text: str) -> Media:
    """One media range; a quality that is no number counts as 0."""
    name, *rest = text.split(";")
    pairs = [tuple(part.strip() for part in item.partition("=")[::2]) for item in rest if item.strip()]
    parameters = tuple((key.lower(), value.strip('"')) for key, value in pairs)
    quality = next((_quality(value) for key, value in parameters if key == "q"), 1.0)
    return Media(name.strip().lower(), quality, tuple(row for row in parameters if row[0] != "q"))


def ranges_of(value: str) -> list[Media]:
    """The ranges of `Accept` as sent."""
    return [media(part) for part in value.split(",") if part.strip()]


def accepted(value: str) -> list[Media]:
    """The ranges of `Accept`, best first; equal ones as sent, more specific before less (RFC 9110 §12.5.1)."""
    wanted = [row for row in ranges_of(value) if row.quality > 0]
    return sorted(wanted, key=lambda row: (-row.quality, row.name.count("*")))


def accepts_gzip(value: str | None) -> bool:
    """Whether `Accept-Encoding` allows gzip."""
    if not value:
        return False
    said = {row.name: row.quality for row in map(media, value.split(","))}
    return said.get("gzip", said.get("*", 0.0)) > 0


def _quality(text: str) -> float:
    try:
        quality = float(text)
    except ValueError:
        return 0.0
    return quality if 0 <= quality <= 1 else 0.0


def etag(version: int | str) -> str:
    """The weak ETag of a version."""
    return f'W/"{version}"'


def version_of(value: str) -> str:
    """The version id of one ETag, weak or strong, quoted or not."""
    return value.strip().removeprefix("W/").strip('"')


def matches_etag(value: str, version: int | str) -> bool:
    """Whether a list of ETags or `*` names the version."""
    return value.strip() == "*" or any(version_of(tag) == str(version) for tag in value.split(","))


def if_match(value: str) -> int:
    """The version that `If-Match` demands; FHIR allows exactly one."""
    text = version_of(value)
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise FhirError("conflict", f"If-Match names no version of this resource: {value}", status=412)
    return int(text)


def http_date(at: datetime) -> str:
    """An instant as `Sat, 21 Nov 2026 11:12:00 GMT`; a sixth of the time that email.utils takes."""
    if at.utcoffset():
        at = at.astimezone(UTC)
    return f"{_day(at.toordinal())} {at.hour:02}:{at.minute:02}:{at.second:02} GMT"


@lru_cache(maxsize=1024)
def _day(number: int) -> str:
    day = date.fromordinal(number)
    return f"{DAYS[day.weekday()]}, {day.day:02} {MONTHS[day.month - 1]} {day.year:04}"


def instant_of(value: str | None) -> datetime | None:
    """The instant of an HTTP date; None where the header is absent or no date, which then counts as absent."""
    try:
        at = parsedate_to_datetime(value) if value else None
    except (ValueError, OverflowError):
        return None
    return at.replace(tzinfo=UTC) if at is not None and at.tzinfo is None else at


def first(pairs: Iterable[tuple[str, str]], name: str) -> str | None:
    """The first value of a query parameter."""
    return next((value for key, value in pairs if key == name), None)
