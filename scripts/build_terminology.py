"""Builds terminology/data: HL7 terminology (THO), the index of all definitions, and the systems gathered from R4.

Usage: python scripts/build_terminology.py FOLDER-OF-hl7.terminology.r4-7.0.1
The R4 definitions come from profiles/data; what R4 shows of LOINC, CVX, ISO 3166 and ISO 4217 becomes code systems.
"""

from __future__ import annotations

import json
import sys
import zoneinfo
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import zstandard

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from profiles import model  # noqa: E402
from terminology.crate import crate  # noqa: E402
from terminology.pack import Row, pack  # noqa: E402

DATA = ROOT / "terminology" / "data"
KINDS = ("CodeSystem", "ValueSet", "ConceptMap")
SNOMED = "http://snomed.info/sct"
LOINC_NOTICE = (
    "This material contains content from LOINC (http://loinc.org). LOINC is copyright (c) Regenstrief Institute, Inc. "
    "and the Logical Observation Identifiers Names and Codes (LOINC) Committee and is available at no cost under the "
    "license at http://loinc.org/license. LOINC(R) is a registered United States trademark of Regenstrief Institute, "
    "Inc."
)
# Systems that R4 uses without defining them: name, title, whether R4 shows all of it, notice.
GATHERED = {
    "http://loinc.org": ("LOINC", "LOINC codes of the FHIR R4 value sets", "fragment", LOINC_NOTICE),
    "http://hl7.org/fhir/sid/cvx": (
        "CVX",
        "Vaccine administered code set (CVX), as of FHIR R4",
        "fragment",  # of 2019: a vaccine since then is not wrong for that
        "CDC, public domain",
    ),
    "urn:iso:std:iso:4217": ("ISO4217", "Currency codes (ISO 4217)", "complete", "ISO 4217, as published in FHIR R4"),
    "urn:iso:std:iso:3166": (
        "ISO3166",
        "Country codes (ISO 3166-1)",
        "complete",
        "ISO 3166-1, as published in FHIR R4",
    ),
    "http://ihe.net/fhir/ValueSet/IHE.FormatCode.codesystem": (
        "IHEFormatCode",
        "IHE document format codes",
        "complete",
        "IHE",
    ),
}
# What R4's value sets list without a display, named as LOINC does.
LOINC_NAMES = {
    "2708-6": "Oxygen saturation in Arterial blood",
    "29463-7": "Body weight",
    "30525-0": "Age",
    "39156-5": "Body mass index (BMI) [Ratio]",
    "46251-5": "Age group",
    "8302-2": "Body height",
    "8310-5": "Body temperature",
    "8462-4": "Diastolic blood pressure",
    "8478-0": "Mean blood pressure",
    "8480-6": "Systolic blood pressure",
    "85353-1": "Vital signs, weight, height, head circumference, oxygen saturation and BMI panel",
    "85354-9": "Blood pressure panel with all children optional",
    "8867-4": "Heart rate",
    "9279-1": "Respiratory rate",
    "9843-4": "Head Occipital-frontal circumference",
}
LISTED = {"http://unitsofmeasure.org": "units", "urn:ietf:bcp:47": "languages", "urn:ietf:bcp:13": "mime"}


def main(folder: Path) -> None:
    """Writes every file anew."""
    DATA.mkdir(exist_ok=True)
    tho = list(_tho(folder))
    shown = _shown([*model.definitions("ValueSet"), *tho])
    shown["http://loinc.org"] |= {c: name for c, name in LOINC_NAMES.items() if shown["http://loinc.org"].get(c) == c}
    for url, (name, title, content, notice) in GATHERED.items():
        about = _about(url, name, title, content, notice)
        _write(f"{name.lower()}.crate", crate(pack(about, [Row(c, d) for c, d in sorted(shown[url].items())])))
    zones = [Row(name, name.replace("_", " ")) for name in sorted(zoneinfo.available_timezones()) if "/" in name]
    about = _about("https://www.iana.org/time-zones", "TimeZones", "IANA time zones", "complete", "IANA, public domain")
    _write("timezones.crate", crate(pack(about, zones)))
    listed = {name: sorted(shown.get(url, {}).items()) for url, name in LISTED.items()}
    listed["languages"] = sorted({**dict(listed["languages"]), **_languages()}.items())
    _write("listed.json.zst", _compress(listed))
    _write_tho(tho)


def _about(url: str, name: str, title: str, content: str, notice: str) -> dict[str, Any]:
    return {
        "resourceType": "CodeSystem",
        "id": name.lower(),
        "url": url,
        "version": "4.0.1" if name != "LOINC" else "2.67-r4",
        "name": name,
        "title": title,
        "status": "active",
        "language": "en",
        "caseSensitive": True,
        "content": content,
        "copyright": notice,
        **({"property": [{"code": "LIST", "type": "code"}]} if name == "LOINC" else {}),
    }


def _tho(folder: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.glob("*.json")):
        if path.name.split("-")[0] in KINDS:
            resource = json.loads(path.read_text(encoding="utf-8"))
            for name in ("text", "meta", "expansion"):
                resource.pop(name, None)
            _drop_snomed(resource)
            yield resource


def _drop_snomed(resource: dict[str, Any]) -> None:
    """The texts of SNOMED CT are not ours to give away; the codes remain, as the definition needs them."""
    compose = resource.get("compose", {})
    for row in [*compose.get("include", ()), *compose.get("exclude", ())]:
        if row.get("system") == SNOMED and "concept" in row:
            row["concept"] = [{"code": c["code"]} for c in row["concept"]]


def _shown(value_sets: Iterable[dict[str, Any]]) -> dict[str, dict[str, str]]:
    """System -> code -> display, of all codes that value sets list or that R4's expansions show."""
    shown: dict[str, dict[str, str]] = {}
    for value_set in value_sets:
        if not value_set.get("language", "en").startswith("en"):
            continue
        for row in value_set.get("compose", {}).get("include", ()):
            for concept in row.get("concept", ()):
                _note(shown, row.get("system", ""), concept["code"], concept.get("display"))
    for _, systems in model.expansions().values():
        for system, rows in systems.items():
            for code, display in rows:
                _note(shown, system, code, display)
    return shown


def _note(shown: dict[str, dict[str, str]], system: str, code: str, display: str | None) -> None:
    """The first display that is given stays: R4's expansion of languages has some in Danish."""
    known = shown.setdefault(system, {})
    if known.get(code, code) == code:
        known[code] = display or code


def _languages() -> dict[str, str]:
    """Names of languages in English (CLDR, Unicode licence)."""
    from babel import Locale

    names = Locale("en").languages
    return {code.replace("_", "-"): name for code, name in names.items() if "_" not in code}


def _compress(value: Any) -> bytes:
    return zstandard.ZstdCompressor(level=19).compress(msgspec.json.encode(value))


def _write(name: str, data: bytes) -> None:
    (DATA / name).write_bytes(data)
    print(f"{name}: {len(data):,} bytes")


def _write_tho(tho: list[dict[str, Any]]) -> None:
    """Each resource a frame of its own behind one dictionary, so that one is read without its neighbours."""
    bodies = [msgspec.json.encode(r) for r in tho]
    trained = zstandard.train_dictionary(64 * 1024, bodies)
    packer = zstandard.ZstdCompressor(level=19, dict_data=trained)
    frames = [packer.compress(body) for body in bodies]
    rows, at = [], 0
    for resource, frame in zip(tho, frames, strict=True):
        rows.append([*_key(resource), "tho", at, len(frame)])
        at += len(frame)
    for kind in KINDS:
        rows += [[*_key(resource), "r4", resource["id"], 0] for resource in model.definitions(kind)]
    _write("definitions.dict", trained.as_bytes())
    _write("definitions.zst", b"".join(frames))
    _write("index.json.zst", _compress(rows))


def _key(resource: dict[str, Any]) -> list[str | None]:
    return [resource["resourceType"], resource.get("url", ""), resource.get("version")]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
