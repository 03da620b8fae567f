"""RxNorm: the RRF files of a monthly release (RXNCONSO, with RXNREL if there)."""

from __future__ import annotations

from collections.abc import Iterator

from terminology.concepts import Json
from terminology.load.release import Files, Release, about, bar_rows, find, optional
from terminology.pack import INACTIVE, Row

URL = "http://www.nlm.nih.gov/research/umls/rxnorm"
# Columns of RXNCONSO and RXNREL that are used (https://www.nlm.nih.gov/research/umls/rxnorm/docs/techdoc.html).
_CUI, _SAB, _TTY, _STR, _SUPPRESS, _CONSO = 0, 11, 12, 14, 16, 18
_CUI1, _CUI2, _RELA, _RELATIONS = 0, 4, 7, 16
# Which name of a concept is shown: the normalised forms of clinical and branded drugs before the rest.
_SHOWN = ("SCD", "SBD", "GPCK", "BPCK", "IN", "PIN", "MIN", "BN", "SCDC", "SBDC", "SCDF", "SBDF", "DF", "DFG")


def read(files: Files, version: str | None) -> Release:
    """RxNorm's own names (SAB=RXNORM) by their RXCUI."""
    conso = find(files, r"RXNCONSO\.RRF", "The names of RxNorm")
    head = about(
        URL,
        version or "unknown",
        "RxNorm",
        "RxNorm",
        property=[{"code": "TTY", "type": "string"}],
        publisher="National Library of Medicine",
    )
    return Release(head, _rows(files, conso))


def _rows(files: Files, conso: str) -> Iterator[Row]:
    names: dict[str, list[tuple[str, str, bool]]] = {}
    for cells in bar_rows(files, conso, _CONSO):
        if cells[_SAB] == "RXNORM":
            kept = cells[_SUPPRESS] in ("N", "")
            names.setdefault(cells[_CUI], []).append((cells[_TTY], cells[_STR], kept))
    above = _above(files)
    for code, terms in names.items():
        terms.sort(key=lambda t: (not t[2], _SHOWN.index(t[0]) if t[0] in _SHOWN else len(_SHOWN)))
        kinds = dict.fromkeys(kind for kind, _, _ in terms)
        extra: Json = {"property": [{"code": "TTY", "valueString": kind} for kind in kinds]}
        others = tuple(dict.fromkeys(text for _, text, _ in terms[1:] if text != terms[0][1]))
        if others:
            extra["designation"] = [{"language": "en", "value": text} for text in others]
        inactive = not any(kept for _, _, kept in terms)
        yield Row(code, terms[0][1], tuple(above.get(code, ())), extra, INACTIVE if inactive else 0, others)


def _above(files: Files) -> dict[str, list[str]]:
    """RXCUI1 is the target, RXCUI2 the source: `A isa B` is written with B first."""
    name = optional(files, r"RXNREL\.RRF")
    above: dict[str, list[str]] = {}
    for cells in bar_rows(files, name, _RELATIONS) if name else ():
        if cells[_RELA] == "isa":
            above.setdefault(cells[_CUI2], []).append(cells[_CUI1])
    return above
