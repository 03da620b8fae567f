"""Two conveniences for programs that know no FHIR: ICD-10-CM completion, and checking a list of codes.

`GET /terminology/icd10/search?q=diab&count=10`, `POST /terminology/icd10/validate` (docs/terminology.md).
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Mapping
from typing import Any

from fhir_server.context import Context
from fhir_server.store.terms import terms_of
from profiles.json import parse
from profiles.outcome import FhirError
from terminology.completion import search
from terminology.icd10 import Icd10, Patient, validate
from terminology.library import Library

ICD10 = "http://hl7.org/fhir/sid/icd-10-cm"
MOST = 100
MOST_CODES = 200
LARGEST = 64 << 10
SEXES = ("male", "female")
KEYS = ("codes", "sex", "age", "ageDays", "version")


async def completion(query: Mapping[str, str], context: Context) -> Any:
    """The best matches for what was typed."""
    text, count = query.get("q", "").strip(), query.get("count", "20")
    if not text or len(text) > MOST:
        raise FhirError("invalid", f"q must be 1 to {MOST} characters")
    if not count.isascii() or not count.isdigit() or not 0 < int(count[:9]) <= MOST:
        raise FhirError("invalid", f"count must be 1 to {MOST}, not {count[:40]}")
    return await _ask(context, query.get("version"), lambda icd: {"matches": search(icd, text, int(count))})


async def checking(parts: AsyncIterable[bytes], context: Context) -> Any:
    """Each code of the list: valid, billable, 7th character; and the pairs that exclude each other."""
    sent = parse(await _arrived(parts))
    asked = {"codes": sent} if isinstance(sent, list) else sent
    codes = asked.get("codes") if isinstance(asked, dict) else None
    if not isinstance(codes, list) or not all(isinstance(c, str) for c in codes) or not 0 < len(codes) <= MOST_CODES:
        raise FhirError(
            "invalid", f'The body must be {{"codes": [...]}} or [...] with 1 to {MOST_CODES} codes', "codes"
        )
    return await _ask(context, asked.get("version"), lambda icd: validate(icd, codes, _patient(asked)))


async def _arrived(parts: AsyncIterable[bytes]) -> bytes:
    """The body, counted while it arrives."""
    body = bytearray()
    async for part in parts:
        body += part
        if len(body) > LARGEST:
            raise FhirError("too-long", f"The body may be {LARGEST:,} bytes long")
    return bytes(body)


def _patient(asked: Any) -> Patient:
    unknown = sorted(set(asked) - set(KEYS))
    if unknown:
        raise FhirError("invalid", f"{', '.join(unknown)} is not known; there is {', '.join(KEYS)}", unknown[0])
    sex = asked.get("sex")
    if sex is not None and sex not in SEXES:
        raise FhirError("invalid", "sex must be male or female", "sex")
    years, days = _whole(asked, "age"), _whole(asked, "ageDays")
    return Patient(sex, days if years is None or days is not None else years * 365)


def _whole(asked: Any, name: str) -> int | None:
    value = asked.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise FhirError("invalid", f"{name} must be a whole number of 0 or more", name)
    return value


async def _ask(context: Context, version: Any, work: Any) -> Any:
    def answer(library: Library) -> Any:
        found = library.code_system(ICD10, str(version) if version else None)
        if not isinstance(found, Icd10):
            known = ", ".join(library.versions("CodeSystem", ICD10))
            raise FhirError("not-found", f"ICD-10-CM version {version} is not known; there is {known}")
        return work(found)

    return await terms_of(context.store, context.registry).ask(answer, [("CodeSystem", ICD10)])
