"""Narratives: their XHTML and their links (http://hl7.org/fhir/R4/narrative.html)."""

from __future__ import annotations

import re
from functools import lru_cache

from lxml import etree

from profiles.fhirpath.narrative import narrative_faults
from profiles.validate.report import Report
from profiles.validate.spots import Spot, everything, whole

# Links into the narrative and to what no browser follows, also when a character is written by its number.
CHECKED = re.compile(r"href\s*=\s*[\"'](?:#|urn:|[^\"'>]*&#)")


@lru_cache(maxsize=256)
def links(text: str) -> tuple[frozenset[str], frozenset[str]]:
    """(the targets of links, the anchors) of a `div`; nothing where it is not well-formed."""
    if "href" not in text and " id=" not in text and " name=" not in text:
        return frozenset(), frozenset()
    parser = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=False)
    try:
        elements = list(etree.fromstring(text.encode(), parser).iter())
    except (etree.XMLSyntaxError, ValueError):
        return frozenset(), frozenset()
    found = frozenset(str(e.get("href")) for e in elements if e.get("href"))
    return found, frozenset(str(e.get(k)) for e in elements for k in ("id", "name") if e.get(k))


def check_narrative(report: Report, spot: Spot) -> None:
    """The XHTML of one narrative (txt-1, txt-2), and its links: to an anchor or an id, or to the outside."""
    text = spot.value.get("div")
    if not isinstance(text, str):
        return
    for fault in narrative_faults(text):
        # HL7's own publisher marks what it generated with data-fhir; no browser acts on such attributes.
        if not fault.startswith("The attribute data-"):
            report.error("invariant", f"{spot.path}.div", fault)
    if not CHECKED.search(text):
        return
    targets, anchors = links(text)
    near = [t[1:] for t in targets if t.startswith("#") and t != "#" and t[1:] not in anchors]
    ids = _ids(spot) if near else set()
    for name in sorted(near):
        if name not in ids:
            report.error("not-found", f"{spot.path}.div", f"the link '#{name}' leads nowhere")
    for target in sorted(targets):
        if target.startswith("urn:"):
            report.error("value", f"{spot.path}.div", f"'{target}' is nothing a browser can follow")


def _ids(spot: Spot) -> set[str]:
    """All ids of the resource and of what it contains, and the anchors of every narrative in it."""
    found: set[str] = set()
    for place in everything(whole(spot.root)):
        if isinstance(place.value, dict) and isinstance(place.value.get("id"), str):
            found.add(place.value["id"])
        if place.type == "Narrative" and isinstance(place.value, dict):
            found |= links(str(place.value.get("div")))[1]
    return found
