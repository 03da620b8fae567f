"""Narratives that a browser would act on are refused on every write (R4 narrative.html, rule txt-1)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from profiles.fhirpath.narrative import narrative_faults
from profiles.outcome import Issue

# A look at the text costs a microsecond, the whole check thirty: only what may act is checked in full here.
SUSPECT = re.compile(
    r"<\s*/?\s*(?:[a-z]+:)?(?:script|iframe|frame|object|embed|applet|form|input|button|base|link|meta|style|svg|math|video|audio"
    r"|template|textarea|select|body|html|noscript)\b|[\s/\"']on[a-z]+\s*=|script\s*:|data\s*:|&#|srcset|xlink|expression"
    r"|url\s*\(|behavior|<!|<\?",
    re.IGNORECASE,
)
# Types with narratives in other places than `text`.
DEEP = frozenset({"Bundle", "Composition", "Parameters"})


def unsafe_narratives(resource: dict[str, Any]) -> Iterator[Issue]:
    """An issue for each narrative that may act and is not what the specification allows."""
    for place, div in _divs(resource):
        if SUSPECT.search(div):
            faults = [fault for fault in narrative_faults(div) if not fault.startswith("The attribute data-")]
            yield from (Issue("error", "invariant", fault, (place,)) for fault in faults[:1])


def _divs(resource: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if resource.get("resourceType") not in DEEP and "contained" not in resource:
        text = resource.get("text")
        found = text.get("div") if isinstance(text, dict) else None
        return iter([(f"{resource.get('resourceType')}.text.div", found)] if isinstance(found, str) else [])
    return _everywhere(resource, str(resource.get("resourceType")))


def _everywhere(node: Any, place: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, list):
        for number, item in enumerate(node):
            yield from _everywhere(item, f"{place}[{number}]")
    elif isinstance(node, dict):
        if isinstance(node.get("div"), str):
            yield f"{place}.div", node["div"]
        for key, value in node.items():
            if isinstance(value, dict | list):
                yield from _everywhere(value, f"{place}.{key}")
