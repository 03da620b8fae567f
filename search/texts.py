"""Order-preserving texts: instants, decimals, folded strings and systems, so that a sorted index answers ranges.

MongoDB compares strings as UTF-8 bytes, which is the order of code points, and so does Python.
"""

from __future__ import annotations

import hashlib
import unicodedata
from decimal import ROUND_HALF_EVEN, Context, Decimal

# 64 characters in the order of their codes: digits of instants and of keys.
DIGITS = "-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"
_VALUE = {c: i for i, c in enumerate(DIGITS)}

SEPARATOR = "\x1f"
MIN, MAX = "-", "~"

# A longer text is cut and its hash appended: equality stays exact, prefixes within the cut too.
LONGEST = 200

DAY = 86_400_000
# Milliseconds from 0001-01-01 to 1970-01-01, and the last instant a FHIR date can name (the end of year 9999).
EPOCH = 719_162 * DAY
LAST = 3_652_059 * DAY - EPOCH

_PAIRS = [a + b for a in DIGITS for b in DIGITS]

# The systems that most codes come from, as two characters; a system's own text never starts with an asterisk.
SYSTEMS: dict[str, str] = {
    "http://loinc.org": "*L",
    "http://snomed.info/sct": "*S",
    "http://unitsofmeasure.org": "*U",
    "http://hl7.org/fhir/sid/icd-10-cm": "*I",
    "http://hl7.org/fhir/sid/icd-10": "*J",
    "http://hl7.org/fhir/sid/us-npi": "*N",
    "http://hl7.org/fhir/sid/us-ssn": "*Q",
    "http://hl7.org/fhir/sid/cvx": "*V",
    "http://www.nlm.nih.gov/research/umls/rxnorm": "*R",
    "http://terminology.hl7.org/CodeSystem/observation-category": "*O",
    "http://terminology.hl7.org/CodeSystem/condition-clinical": "*C",
    "http://terminology.hl7.org/CodeSystem/condition-ver-status": "*D",
    "http://terminology.hl7.org/CodeSystem/condition-category": "*E",
    "http://terminology.hl7.org/CodeSystem/v3-ActCode": "*A",
    "http://terminology.hl7.org/CodeSystem/v2-0203": "*2",
    "http://terminology.hl7.org/CodeSystem/diagnostic-service-sections": "*G",
    "http://terminology.hl7.org/CodeSystem/v2-0074": "*7",
    "urn:ietf:rfc:3986": "*u",
    "urn:iso:std:iso:4217": "*4",
    "https://github.com/synthetichealth/synthea": "*Y",
}
# Systems whose codes differ by case alone; in all others a code matches in any case
# (http://hl7.org/fhir/R4/search.html#token: "servers SHOULD treat tokens in a case-insensitive manner").
CASE_SENSITIVE = frozenset({"http://unitsofmeasure.org"})


def instant(at: int) -> str:
    """Nine characters for milliseconds since 1970: four for the day, three for the second, two for the rest."""
    day, rest = divmod(min(max(at, -EPOCH), LAST) + EPOCH, DAY)
    second, milli = divmod(rest, 1000)
    return day_text(day) + second_text(second) + _PAIRS[milli]


def instant_of(text: str) -> int:
    """The instant a text of `instant`, or the beginning of one, stands for."""
    digits = [_VALUE.get(c, 0) for c in text[:9].rstrip('!"#$%').ljust(9, MIN)]
    day = digits[0] << 18 | digits[1] << 12 | digits[2] << 6 | digits[3]
    second = digits[4] << 12 | digits[5] << 6 | digits[6]
    return day * DAY - EPOCH + second * 1000 + (digits[7] << 6 | digits[8])


def day_text(day: int) -> str:
    """Four characters for days since 0001-01-01."""
    return _PAIRS[day >> 12] + _PAIRS[day & 4095]


def second_text(second: int) -> str:
    """Three characters for the seconds of a day."""
    return DIGITS[second >> 12] + _PAIRS[second & 4095]


def bound(at: int) -> str:
    """The text below every entry that begins at or after the instant: zero parts at the end are left out."""
    text = instant(at)
    if text.endswith("--"):
        text = text[:7]
        if text.endswith("---"):
            text = text[:4]
    return text


# Enough for every measured value, and a bound on what an entry can cost.
_MANTISSA = Context(prec=36, rounding=ROUND_HALF_EVEN, Emax=999_999, Emin=-999_999)
_NINES = str.maketrans("0123456789", "9876543210")


def number(value: Decimal | int) -> str:
    """A text in the order of the numbers: sign, exponent, then the digits without zeros at the end.

    Numbers with more than 36 digits are rounded to 36.
    """
    sign, digits, exponent = _MANTISSA.create_decimal(value).as_tuple()
    assert isinstance(exponent, int)
    mantissa = "".join(map(str, digits)).lstrip("0")
    if not mantissa:
        return "o"
    power = len(mantissa) + exponent - 1
    mantissa = mantissa.rstrip("0")
    if sign:
        return "n" + _power(-power) + mantissa.translate(_NINES) + MAX
    return "p" + _power(power) + mantissa


def _power(power: int) -> str:
    """One character for the usual exponents, seven for the absurd ones."""
    if -31 <= power <= 30:
        return DIGITS[power + 32]
    return (DIGITS[63] if power > 0 else DIGITS[0]) + f"{power + 1_000_000:07d}"


def precision(value: Decimal) -> Decimal:
    """Half of the last digit as written: `5.40` is 5.395 to 5.405.

    `1e2` is 95 to 105, as http://hl7.org/fhir/R4/search.html#number has it.
    """
    exponent = value.as_tuple().exponent
    assert isinstance(exponent, int)
    return Decimal((0, (5,), exponent - (2 if exponent > 0 else 1)))


def fold(text: str) -> str:
    """A string without case, accents and superfluous space (http://hl7.org/fhir/R4/search.html#string)."""
    if text.isascii():
        text = text.lower()
    else:
        parts = unicodedata.normalize("NFKD", text.casefold())
        text = unicodedata.normalize("NFC", "".join(c for c in parts if not unicodedata.combining(c))).casefold()
    return " ".join(text.split())


class _Unpunctuated(dict[int, int | None]):
    """What becomes of each character: punctuation nothing, others themselves; worked out when one is met."""

    def __missing__(self, char: int) -> int | None:
        kept = None if unicodedata.category(chr(char))[0] == "P" else char
        self[char] = kept
        return kept


_UNPUNCTUATED = _Unpunctuated()


def loose(text: str) -> str:
    """A string as strings are compared: folded, and without punctuation, unless it is nothing else."""
    folded = fold(text)
    bare = folded.translate(_UNPUNCTUATED)
    if bare == folded:
        return folded
    bare = " ".join(bare.split())
    return (bare if bare.isascii() else fold(bare)) or folded


def cut(text: str) -> str:
    """The text, or its beginning and a hash of all of it where it is longer than an entry should be."""
    if len(text) <= LONGEST:
        return text
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=9).hexdigest()
    return f"{text[: LONGEST - 20]}\x1e{digest}"


def is_cut(text: str) -> bool:
    """Whether an entry of this text had to be cut."""
    return len(text) > LONGEST


def system(uri: str) -> str:
    """The short form of a code system's uri."""
    return SYSTEMS.get(uri) or cut(uri)


def code(text: str, uri: str) -> str:
    """A code as it is compared: without case, but where the system tells codes apart by it."""
    return cut(plain(text) if uri in CASE_SENSITIVE else fold_code(text))


def plain(text: str) -> str:
    """A code that cannot be mistaken for `code|system`."""
    return text.replace("|", "\x1d") if "|" in text else text


def fold_code(text: str) -> str:
    """A code without case."""
    text = plain(text)
    return text.lower() if text.isascii() else unicodedata.normalize("NFC", text).casefold()


def token(value: str, uri: str) -> str:
    """`code|system`: the code first, so that a code without its system is a prefix."""
    return f"{code(value, uri)}|{system(uri)}"


def code_forms(value: str) -> tuple[str, ...]:
    """A code, or a part of one, without case and as it is: where its system is not known, it can be either."""
    folded, as_is = fold_code(value), plain(value)
    return (folded,) if folded == as_is else (folded, as_is)


def tokens(value: str) -> tuple[str, ...]:
    """The forms a code without a system can have."""
    return tuple(map(cut, code_forms(value)))
