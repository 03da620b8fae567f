"""The terminology operations: parameters in, terminology's answer out (http://hl7.org/fhir/R4/terminology-service.html).

What a code means is decided in the package `terminology`; here are the request, the stored definitions and the answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from uuid import uuid4

from fhir_server.access import owner
from fhir_server.answers.respond import Response, resource_answer
from fhir_server.context import Context, Resource
from fhir_server.operations.call import Call
from fhir_server.operations.parameters import parameters
from fhir_server.operations.stored import stored_version
from fhir_server.shipped import AT
from fhir_server.store.terms import Key, terms_of
from profiles.json import decode, encode
from profiles.outcome import FhirError
from terminology.closure import Closure, closure, name_of, of_record
from terminology.content import shipped
from terminology.expand import NO_CLOCK, Clock
from terminology.library import Library
from terminology.operations import Asking
from terminology.operations import run as answer
from terminology.request import Parameters, of_query, of_resource

CONTROLS = frozenset(("_format", "_pretty", "_summary", "_elements"))
CLOSURES = "closure"
# Operations whose answers tell the time; those of the others are kept as long as what they rest on is the same.
TIMED = frozenset(("expand",))
# Bytes of a request whose answer is kept.
LARGEST = 4_096
_ATTEMPTS = 5


async def run(call: Call, context: Context) -> Response:
    """The operation that the path names, on a type or an instance."""
    name = call.request.parts[-1].removeprefix("$")
    asked, instance = parameters_of(call), None
    if call.id:
        asked, instance = await _on_instance(call, asked, context)
    clock = Clock(context.now(), str(uuid4())) if name in TIMED else NO_CLOCK
    header = call.request.headers.get("accept-language")

    def work(library: Library) -> Resource:
        return answer(call.type, name, Asking(library, asked, clock, header, instance))

    terms, keys = terms_of(context.store, context.registry), likely(call.type, asked, instance)
    if name in TIMED or call.id or call.request.resource is not None or len(call.request.body) > LARGEST:
        return resource_answer(await terms.ask(work, keys))
    same = (call.type, name, tuple(call.request.query), call.request.body, header)
    return Response(200, {}, await terms.answered(same, lambda library: encode(work(library)), keys))


async def _on_instance(call: Call, asked: Parameters, context: Context) -> tuple[Parameters, Resource | None]:
    """The parameters and the resource; of what comes with the server its url and version, for it is known already."""
    stored = await stored_version(call, context)
    resource: Resource = decode(stored.body or b"")
    if stored.at is not AT or call.type == "ValueSet":
        return asked, resource
    names = ("conceptMapVersion", "url") if call.type == "ConceptMap" else ("version", "url", "system")
    rows = [{"name": name, "valueUri": resource["url"]} for name in names[1:]]
    if "version" in resource:
        rows.append({"name": names[0], "valueString": resource["version"]})
    return Parameters([*rows, *asked.rows]), None


def parameters_of(call: Call) -> Parameters:
    """The parameters of the query and those of the body; a resource posted as it is stands for its parameter."""
    rows = of_query(pair for pair in call.request.query if pair[0] not in CONTROLS).rows
    sent = call.sent
    if sent is None:
        return Parameters(rows)
    if sent.get("resourceType") == "Parameters":
        return Parameters([*rows, *of_resource(sent).rows])
    name = {"ValueSet": "valueSet", "CodeSystem": "codeSystem", "ConceptMap": "conceptMap"}.get(
        str(sent.get("resourceType"))
    )
    if name is None:
        raise FhirError("invalid", f"The body must be Parameters, not {sent.get('resourceType')}.", "resourceType")
    return Parameters([*rows, {"name": name, "resource": sent}])


def likely(kind: str, asked: Parameters, instance: Resource | None) -> Iterable[Key]:
    """The definitions to look up at once: one round to the database where the answer would ask for them in turn."""
    urls = [str(url).partition("|")[0] for url in asked.all("url")]
    systems = [url.partition("?")[0] for url in urls if "?" in url]
    if kind != "ConceptMap":
        systems += [str(url) for url in asked.all("system")]
        systems += [c["system"] for c in _codings(asked) if isinstance(c.get("system"), str)]
    if kind == "ValueSet":
        systems += _included(instance or _known(urls))
    return [*((kind, url) for url in urls), *(("CodeSystem", system) for system in systems)]


def _codings(asked: Parameters) -> Iterable[Resource]:
    for value in [*asked.all("coding"), *asked.all("codeableConcept")]:
        codings = value.get("coding", [value]) if isinstance(value, dict) else ()
        yield from (c for c in codings if isinstance(c, dict)) if isinstance(codings, list) else ()


def _known(urls: list[str]) -> Resource | None:
    """The shipped value set of this url."""
    versions = shipped().versions("ValueSet", urls[0]) if urls else ()
    return (
        shipped().resource("ValueSet", urls[0], shipped().newest("ValueSet", urls[0], versions)) if versions else None
    )


def _included(value_set: Resource | None) -> list[str]:
    rows = (value_set or {}).get("compose", {}).get("include", ())
    return [row["system"] for row in rows if isinstance(row.get("system"), str)]


async def close_table(call: Call, context: Context) -> Response:
    """$closure: the table is kept with the server's state, for the client and user who named it.

    Of two changes at once the second starts over.
    """
    asked, known = parameters_of(call), terms_of(context.store, context.registry)
    name = f"{owner(call.request)} {name_of(asked)}".strip()
    for _ in range(_ATTEMPTS):
        record = await known.state(CLOSURES, name)
        table = of_record(record) if record else None
        made, found = await known.ask(partial(_closed, asked=asked, table=table))
        if made == table or await known.keep(CLOSURES, name, made.record(), record):
            return resource_answer(found)
    raise FhirError("conflict", f"The closure table {name_of(asked)} is being changed by others; try again.")


def _closed(library: Library, asked: Parameters, table: Closure | None) -> tuple[Closure, Resource]:
    return closure(library, asked, table)


async def versions(call: Call, context: Context) -> Response:
    """$versions: R4 alone."""
    return resource_answer(parameters([("version", "valueCode", "4.0"), ("default", "valueCode", "4.0")]))
