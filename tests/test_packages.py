"""HL7 packages are read safely, or refused whole."""

from __future__ import annotations

import gzip

import pytest

from profiles.outcome import FhirError
from profiles.packages import read_package
from tests.packing import SHARED as IGS
from tests.packing import tgz

MANIFEST = (
    b'{"name":"x.y","version":"1.0.0","canonical":"http://x","fhirVersions":["4.0.1"],"dependencies":{"a.b":"2.0.0"}}'
)
PATIENT = b'{"resourceType":"Patient","id":"p"}'


def test_a_package_says_what_it_is_and_has() -> None:
    """Name, version, dependencies, resources; examples are kept apart."""
    found = read_package(
        tgz(
            {
                "package/package.json": MANIFEST,
                "package/.index.json": b"not even JSON",
                "package/StructureDefinition-a.json": b'{"resourceType":"StructureDefinition","id":"a","url":"http://x/a"}',
                "package/example/Patient-p.json": PATIENT,
                "package/other/readme.md": b"text",
            }
        )
    )
    assert (found.name, found.version, found.dependencies) == ("x.y", "1.0.0", {"a.b": "2.0.0"})
    assert [(m.type, m.id, m.url) for m in found.of()] == [("StructureDefinition", "a", "http://x/a")]
    assert [m.resource["id"] for m in found.of("Patient", examples=True)] == ["p"]


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"not a package", "is not gzipped"),
        (gzip.compress(b"not a tar", mtime=0), "no readable tar file"),
        (tgz({"package/package.json": MANIFEST})[:-20], "cut off"),
        (tgz({"package/Patient-p.json": PATIENT}), "package.json is missing"),
        (tgz({"package/package.json": b'{"name":"x"}'}), "must have a name and a version"),
        (tgz({"package/package.json": MANIFEST, "package/Patient-p.json": b'{"id":1,"id":2}'}), "occurs twice"),
        (tgz({"package/package.json": MANIFEST, "package/Patient-p.json": b"[]"}), "not a JSON object"),
        (tgz({"package/package.json": MANIFEST, "package/../../etc/x.json": PATIENT}), "leads outside"),
        (tgz({"package/package.json": MANIFEST, "/etc/x.json": PATIENT}), "leads outside"),
        (tgz({"package/package.json": MANIFEST, "package/a/../package.json": MANIFEST}), "leads outside"),
        (tgz({"package/package.json": MANIFEST, "./package/package.json": MANIFEST}), "has two files"),
        (tgz({"package/package.json": MANIFEST}, "package/link.json"), "link or device"),
        (tgz({"package/package.json": MANIFEST, "package/bomb.json": b" " * 30_000_000}), "unpacks to more than"),
    ],
)
def test_a_broken_package_is_refused_whole(raw: bytes, text: str) -> None:
    """Traversal, links, bombs and bad JSON: one sentence, nothing read."""
    with pytest.raises(FhirError, match=text):
        read_package(raw)


@pytest.mark.slow
@pytest.mark.skipif(not IGS.exists(), reason="the implementation guides are not at hand (FHIR_SHARED)")
@pytest.mark.parametrize(("name", "version"), [("us_core_610", "6.1.0"), ("us_core_800", "8.0.0")])
def test_us_core_is_read(name: str, version: str) -> None:
    """Published packages of 1 MB and more."""
    found = read_package((IGS / f"{name}.tgz").read_bytes())
    assert (found.name, found.version) == ("hl7.fhir.us.core", version)
    assert sum(1 for _ in found.of("StructureDefinition")) > 50
