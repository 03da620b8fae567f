"""UCUM as a code system: any valid unit is a code (http://hl7.org/fhir/R4/ucum.html)."""

from __future__ import annotations

from collections.abc import Iterable

from profiles import ucum
from terminology.grammar import Grammar


class Units(Grammar):
    """The grammar of UCUM's case-sensitive units."""

    url = "http://unitsofmeasure.org"
    name = "UCUM"
    title = "Unified Code for Units of Measure (UCUM)"
    known_as = "units"

    def normal(self, code: str) -> str | None:
        """The unit itself."""
        return code if code and ucum.valid(code) else None

    def special_filter(self, name: str, operator: str, value: str) -> Iterable[str] | None:
        """`canonical = kg` and `comparable`: the well-known units of the same dimension."""
        if name not in ("canonical", "comparable") or operator != "=":
            return None
        return [unit for unit in self.codes() if ucum.comparable(unit, value)]
