"""Patient/$summary: an International Patient Summary (http://hl7.org/fhir/uv/ips/OperationDefinition/summary)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from fhir_server.access.views import view_target, views
from fhir_server.answers.respond import Response, resource_answer
from fhir_server.context import Context, Request, Resource
from fhir_server.operations.call import Call
from fhir_server.operations.stored import stored_version
from fhir_server.operations.summary_document import completed, composition, device, document, section_of
from fhir_server.operations.summary_sections import SECTIONS, Section, Source, codes
from fhir_server.operations.summary_text import when
from fhir_server.store import Stored
from profiles.json import decode
from profiles.outcome import FhirError

PROFILE = "http://hl7.org/fhir/uv/ips/StructureDefinition/Composition-uv-ips"
VERSION = "2.0.0"
MOST = 1_000  # resources of one source: a page of a search
# What is taken along when something in the summary refers to it; everything else stays a link to this server.
SUPPORTING = frozenset(
    ("Medication", "Practitioner", "PractitionerRole", "Organization", "Device", "Specimen", "Observation")
)
FOLLOWED = ("DiagnosticReport", "Observation")  # whose references to Observations are followed


async def run(call: Call, context: Context) -> Response:
    """A document Bundle: the Composition, the patient, and what the sections speak of."""
    profile = str(call.one("profile") or PROFILE)
    if profile not in (PROFILE, f"{PROFILE}|{VERSION}"):
        text = f"profile={profile} is not supported; supported is {PROFILE}|{VERSION}."
        raise FhirError("not-supported", text, "profile")
    patient = await _patient(call, context)
    gathered = Gathered(call.request, context)
    gathered.take(patient)
    sources = [source for section in SECTIONS for source in section.sources]
    found = await asyncio.gather(*(gathered.fetched(source, patient.id) for source in sources))
    fitting = dict(zip(sources, found, strict=True))
    parts = [(section, gathered.rows_of([fitting[source] for source in section.sources])) for section in SECTIONS]
    await gathered.support()
    return _answer(gathered, patient, parts, context)


async def _patient(call: Call, context: Context) -> Stored:
    """The instance, or the one patient with the identifier."""
    asked = call.one("identifier")
    if call.id:
        if asked is not None:
            raise FhirError("invalid", "An instance goes without an identifier.", "identifier")
        return await stored_version(call, context)
    if asked is None:
        raise FhirError("required", "$summary needs an instance or the parameter identifier.", "identifier", status=400)
    found = (await views(call.request, context, "Patient", [("identifier", str(asked)), ("_count", "2")])).matches
    if len(found) != 1:
        code, text = ("multiple-matches", "Several patients have") if found else ("not-found", "No patient has")
        raise FhirError(code, f"{text} the identifier {asked}.", "identifier")
    return found[0]


Rows = list[tuple[str, Resource]]


@dataclass(slots=True)
class Gathered:
    """What a summary is made of, by name, in the order in which it was met; `withheld` are types not granted."""

    request: Request
    context: Context
    found: dict[str, Resource] = field(default_factory=dict)
    compartments: list[str] = field(default_factory=list)
    withheld: set[str] = field(default_factory=set)

    def take(self, stored: Stored) -> tuple[str, Resource]:
        """Put a resource into the summary."""
        name = f"{stored.type}/{stored.id}"
        if name not in self.found:
            resource: Any = decode(stored.body or b"{}")
            self.found[name] = resource
            self.compartments.append(stored.compartment)
        return name, self.found[name]

    def rows_of(self, found: list[list[Stored]]) -> Rows:
        """Put the resources of a section into the summary, newest first."""
        rows = [self.take(stored) for each in found for stored in each]
        return sorted(rows, key=lambda row: when(row[1]), reverse=True)

    async def fetched(self, source: Source, patient: str) -> list[Stored]:
        """The resources of a source."""
        pairs = [("patient", f"Patient/{patient}"), *source.pairs, ("_count", str(MOST)), ("_total", "none")]
        try:
            found = await views(
                self.request, self.context, source.type, [*pairs, *([("_sort", "-date")] if source.latest else [])]
            )
        except FhirError as error:
            if error.status != 403:
                raise
            self.withheld.add(source.type)
            return []
        if found.next is not None and not source.latest:
            raise FhirError("too-costly", f"The patient has more than {MOST:,} resources of type {source.type}.")
        kept = [stored for stored in found.matches if source.keep(decode(stored.body or b"{}"))]
        return _latest(kept) if source.latest else kept

    async def support(self) -> None:
        """Take along what the summary refers to, and what that refers to in turn."""
        front = list(self.found.values())
        while front:
            names = dict.fromkeys(name for resource in front for name in self._supporting(resource))
            seen = [await view_target(self.request, self.context, name) for name in names if name not in self.found]
            front = [self.take(stored)[1] for stored in seen if stored is not None]

    def _supporting(self, resource: Resource) -> list[str]:
        rows = references(resource)
        names = [str(row["reference"]).removeprefix(f"{self.context.config.base}/") for row in rows]
        kinds = SUPPORTING if resource["resourceType"] in FOLLOWED else SUPPORTING - {"Observation"}
        return [name for name in names if name.partition("/")[0] in kinds and name.count("/") == 1]


def _latest(rows: list[Stored]) -> list[Stored]:
    """The first of each code."""
    found: dict[Any, Stored] = {}
    for stored in rows:
        resource: Any = decode(stored.body or b"{}")
        key = codes(resource, "code") or resource.get("code", {}).get("text") or stored.id
        found.setdefault((stored.type, key), stored)
    return list(found.values())


def references(node: Any) -> list[Resource]:
    """Every reference within a resource."""
    if isinstance(node, list):
        return [found for item in node for found in references(item)]
    if not isinstance(node, dict):
        return []
    own = [node] if isinstance(node.get("reference"), str) else []
    return own + [found for value in node.values() if isinstance(value, dict | list) for found in references(value)]


def _answer(gathered: Gathered, patient: Stored, parts: list[tuple[Section, Rows]], context: Context) -> Response:
    base = context.config.base
    for resource in gathered.found.values():
        for row in references(resource):
            row["reference"] = _addressed(row["reference"], gathered.found, base)
    around = {f"{base}/{name}": completed(resource) for name, resource in gathered.found.items()}
    sections = [
        section_of(section, rows, gathered.withheld, around, base)
        for section, rows in parts
        if rows or section.required
    ]
    author = f"urn:uuid:{context.new_id()}"
    head = composition(f"{base}/Patient/{patient.id}", around, author, sections, context.now())
    rows = [(f"urn:uuid:{context.new_id()}", head), *around.items(), (author, device())]
    answer = resource_answer(document(rows, context.new_id(), context.now()))
    answer.compartments = tuple(gathered.compartments)
    return answer


def _addressed(text: str, found: dict[str, Resource], base: str) -> str:
    """References are full addresses: of entries, or of what stays on this server."""
    name = text.removeprefix(f"{base}/")
    plain = name.partition("/_history/")[0]
    if plain in found:
        return f"{base}/{plain}"
    return f"{base}/{name}" if name[:1].isupper() and "/" in name and ":" not in name else text
