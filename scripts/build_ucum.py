"""Compile ucum-essence.xml (in PyPI ucumvert, UCUM licence) to profiles/data/ucum.json.

python scripts/build_ucum.py [ucum-essence.xml]
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

from lxml import etree

OUT = Path(__file__).resolve().parent.parent / "profiles" / "data" / "ucum.json"
NS = "{http://unitsofmeasure.org/ucum-essence}"


def essence() -> Path:
    """The file inside the installed ucumvert package."""
    spec = importlib.util.find_spec("ucumvert")
    if spec is None or spec.origin is None:
        raise SystemExit("pip install ucumvert, or name ucum-essence.xml")
    return Path(spec.origin).parent / "vendor" / "ucum-essence.xml"


def unit_row(unit: Any) -> list[Any]:
    """[value, unit, flags, function, name]; flags: m metric, a arbitrary, s special."""
    value = unit.find(NS + "value")
    function = value.find(NS + "function")
    flags = "".join(f for f, a in (("m", "isMetric"), ("a", "isArbitrary"), ("s", "isSpecial")) if unit.get(a) == "yes")
    name = unit.findtext(NS + "name")
    if function is not None:
        return [function.get("value"), function.get("Unit"), flags, function.get("name"), name]
    return [value.get("value"), value.get("Unit"), flags, "", name]


def main() -> None:
    """Write the table."""
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else essence()
    root = etree.parse(source).getroot()
    table = {
        "source": f"ucum-essence.xml {root.get('version')} of {root.get('revision-date')}",
        "prefixes": {p.get("Code"): p.find(NS + "value").get("value") for p in root.iter(NS + "prefix")},
        "base": {b.get("Code"): b.findtext(NS + "name") for b in root.iter(NS + "base-unit")},
        "units": {u.get("Code"): unit_row(u) for u in root.iter(NS + "unit")},
    }
    lines = [f"{json.dumps(k)}: {json.dumps(v, separators=(',', ':'), ensure_ascii=False)}" for k, v in table.items()]
    OUT.write_text("{" + ",\n".join(lines) + "}\n", encoding="utf-8")
    print(f"{OUT.name}: {len(table['units'])} units, {OUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
