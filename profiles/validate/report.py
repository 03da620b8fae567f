"""What a full validation is asked for and what it has found so far."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from profiles.fhirpath import Environment
from profiles.outcome import Issue
from profiles.validate.library import Library
from profiles.validate.spots import Spot

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Options:
    """`unknown_extensions` is the severity of an extension without a known definition, "" for none.

    `unknown_profiles` the same for profiles that cannot be found. Best practice (dom-6) is off unless asked for.
    Without `warnings` no terminology is asked for what would only be a warning.
    `forbid_html`: what looks like an HTML tag in a string or markdown is an error; else in a string a warning.
    """

    unknown_extensions: str = ""
    unknown_profiles: str = "warning"
    best_practice: bool = False
    forbid_html: bool = False
    warnings: bool = True


@dataclass(slots=True)
class Report:
    """The issues found, each once."""

    library: Library
    options: Options = Options()
    issues: list[Issue] = field(default_factory=list)
    seen: set[tuple[str, str, str]] = field(default_factory=set)
    busy: set[tuple[int, str]] = field(default_factory=set)  # (resource, profile) being checked: references may circle
    ids: dict[int, set[Any]] = field(default_factory=dict)  # of the elements of each resource
    conforms: Callable[[Any, str], bool | None] | None = None  # what conformsTo() asks
    _environment: Environment | None = None

    def add(self, severity: str, code: str, spot: Spot | str, text: str, key: str = "") -> None:
        """Add an issue at a place, unless the same one (by `key` or text) stands there already."""
        path = spot if isinstance(spot, str) else spot.path
        mark = (path, severity, key or text)
        if mark not in self.seen:
            self.seen.add(mark)
            self.issues.append(Issue(severity, code, f"{path}: {text}" if path else text, (path or "Resource",)))

    def error(self, code: str, spot: Spot | str, text: str, key: str = "") -> None:
        self.add("error", code, spot, text, key)

    @contextmanager
    def once(self, spot: Spot, profile: str) -> Iterator[bool]:
        """True when this value is not being checked against this profile further up already."""
        mark = (id(spot.value), profile)
        fresh = mark not in self.busy
        self.busy.add(mark)
        try:
            yield fresh
        finally:
            if fresh:
                self.busy.discard(mark)

    def trial(self) -> Report:
        """A report of its own, to see whether something would fit."""
        return Report(self.library, self.options, busy=self.busy, conforms=self.conforms)

    def environment(self, spot: Spot) -> Environment:
        """What an invariant at this place may ask: the same for all places of a resource."""
        made = self._environment
        if made is None or made.resource is not spot.resource or made.root is not spot.root:
            made = self._environment = Environment(
                resource=spot.resource,
                root=spot.root,
                resolve=lambda reference: find_target(self.library, spot, reference),
                member_of=self.library.member_of,
                subsumes=self.library.subsumes,
                conforms=self.conforms,
            )
        return made

    def failed(self) -> bool:
        return any(i.severity == "error" for i in self.issues)


def find_target(library: Library, spot: Spot, reference: str) -> Json | None:
    """The resource a reference at this place means: contained, in the same Bundle, or stored."""
    if reference.startswith("#"):
        held = spot.root.get("contained", [])
        if reference == "#":
            return spot.root
        return next((c for c in held if isinstance(c, dict) and c.get("id") == reference[1:]), None)
    return in_bundle(spot, reference) or library.resolve(reference)


def in_bundle(spot: Spot, reference: str) -> Json | None:
    """The entry a reference means: by fullUrl, or relative to the fullUrl of the entry it stands in."""
    entry: Json | None = None
    above: Spot | None = spot
    while above is not None:
        if above.element == "Bundle.entry":
            entry = above.value
        if above.type == "Bundle":
            found = entry_for(above.value, reference, (entry or {}).get("fullUrl", ""))
            if found is not None:
                return found.get("resource")
        above = above.parent
    return None


def entry_for(bundle: Json, reference: str, full_url: str) -> Json | None:
    """http://hl7.org/fhir/R4/bundle.html#references"""
    target = absolute(reference.partition("/_history/")[0], full_url)
    entries = [e for e in bundle.get("entry", ()) if isinstance(e, dict)]
    exact = next((e for e in entries if e.get("fullUrl") == target), None)
    if exact is not None or ":" in reference:
        return exact
    kind, _, ident = reference.partition("/_history/")[0].rpartition("/")
    if full_url.startswith("http"):
        return None
    return next(
        (
            e
            for e in entries
            if (r := e.get("resource", {})).get("resourceType") == kind and r.get("id") == ident and "fullUrl" not in e
        ),
        None,
    )


def absolute(reference: str, full_url: str) -> str:
    """A relative reference resolved against the base of a RESTful fullUrl."""
    if ":" in reference or not full_url.startswith("http"):
        return reference
    return full_url.rsplit("/", 2)[0] + "/" + reference
