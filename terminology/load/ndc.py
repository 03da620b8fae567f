"""NDC: the text files of the FDA directory (product.txt, with package.txt if there)."""

from __future__ import annotations

from collections.abc import Iterator

from terminology.load.release import Files, Release, about, find, optional, tab_rows
from terminology.pack import Row

URL = "http://hl7.org/fhir/sid/ndc"
_PRODUCT = ("PRODUCTNDC", "PROPRIETARYNAME", "NONPROPRIETARYNAME", "DOSAGEFORMNAME", "LABELERNAME")


def read(files: Files, version: str | None) -> Release:
    """Products, and the packages below them."""
    products = find(files, r"product\.txt", "The products of the NDC directory")
    properties = [{"code": code, "type": "string"} for code in ("dosageForm", "labeler", "package")]
    head = about(URL, version or "unknown", "NDC", "National Drug Code directory", property=properties)
    return Release(head, _rows(files, products))


def _rows(files: Files, products: str) -> Iterator[Row]:
    seen: set[str] = set()
    for code, brand, name, form, labeler in tab_rows(files, products, _PRODUCT):
        if code not in seen:
            seen.add(code)
            told = [{"code": "dosageForm", "valueString": form}, {"code": "labeler", "valueString": labeler}]
            yield Row(code, f"{brand} ({name})" if name and name != brand else brand, (), {"property": told})
    packages = optional(files, r"package\.txt")
    for product, code, text in (
        tab_rows(files, packages, ("PRODUCTNDC", "NDCPACKAGECODE", "PACKAGEDESCRIPTION")) if packages else ()
    ):
        yield Row(code, text, (product,), {"property": [{"code": "package", "valueString": text}]})
