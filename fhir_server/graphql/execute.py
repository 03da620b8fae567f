"""A GraphQL request carried out: the data, or what was wrong, in GraphQL's words (R4 graphql.html#errors)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, TypeAlias

from graphql import (
    DocumentNode,
    ExecutionResult,
    FieldNode,
    GraphQLError,
    OperationDefinitionNode,
    OperationType,
    execute,
    get_operation_ast,
)
from graphql.execution.executor_throwing_on_incremental import ExecutorThrowingOnIncremental

from fhir_server.answers.respond import Response, failure
from fhir_server.context import Context, Request, Resource
from fhir_server.graphql.asked import Asked
from fhir_server.graphql.document import MOST_ERRORS, faults, parsed, place_of
from fhir_server.graphql.reading import Reading
from fhir_server.graphql.schema import schema_of
from fhir_server.graphql.shape import shaped
from profiles.json import decode, encode
from profiles.outcome import FhirError, operation_outcome
from search.params import Registry

Rows: TypeAlias = list[tuple[Exception, dict[str, Any]]]

SECONDS = 15.0  # that one request may take
MOST_DESCRIBED = 3_000_000  # values of the description of the whole schema
JSON = "application/json"
DESCRIBING = ThreadPoolExecutor(1)  # one description at a time, and none in the way of the threads that others use


class Counted(ExecutorThrowingOnIncremental):
    """Carries out a document and counts every value that it makes."""

    def execute_field(self, *arguments: Any) -> Any:
        """One field of one object."""
        self.context_value.count()
        return super().execute_field(*arguments)


async def answer(
    asked: Asked, request: Request, context: Context, root: Resource | None, told: Sequence[str] = ()
) -> Response:
    """The answer to a query about the resource, or about the whole server; `told` are compartments it is from."""
    reading = Reading(request, context, compartments=list(told))
    try:
        document = parsed(asked.query)
        operation = _operation(document, asked, request)
        if _describes(operation):
            return await _described(asked, context.registry, _kind(root))
        async with asyncio.timeout(SECONDS):
            return _done(await _data(document, operation, asked, reading, root), reading)
    except TimeoutError:
        rows: Rows = [(FhirError("too-costly", f"The query takes more than {SECONDS:.0f} seconds."), {})]
    except Faults as error:
        rows = error.rows
    except FhirError as error:
        rows = [(error, {})]
    if reading.done:
        rows = [*rows, (FhirError("incomplete", f"Before that was carried out: {', '.join(reading.done)}."), {})]
    return failed(rows, request)


def _done(data: dict[str, Any], reading: Reading) -> Response:
    """The data, and in `extensions` what has to be known beside it."""
    whole: dict[str, Any] = {"data": data}
    if reading.warnings:
        whole["extensions"] = {"resource": operation_outcome(dict.fromkeys(reading.warnings))}
    return Response(200, {}, encode(whole), media=JSON, compartments=tuple(reading.compartments))


class Faults(Exception):
    """What went wrong, each with where it did."""

    def __init__(self, rows: Rows) -> None:
        super().__init__()
        self.rows = rows


def _kind(root: Resource | None) -> str:
    return str(root["resourceType"]) if root else ""


def _operation(document: DocumentNode, asked: Asked, request: Request) -> OperationDefinitionNode:
    operation = get_operation_ast(document, asked.operation)
    if operation is None:
        text = "Name the operation that is wanted in operationName: the document has none of the name, or several."
        raise FhirError("invalid", text, "operationName")
    if operation.operation is OperationType.SUBSCRIPTION:
        raise FhirError("not-supported", "GraphQL subscriptions are not offered.", "query")
    if operation.operation is OperationType.MUTATION and request.method != "POST":
        raise FhirError("not-supported", "A mutation is sent by POST.", status=405, headers={"Allow": "POST"})
    return operation


async def _data(
    document: DocumentNode, operation: OperationDefinitionNode, asked: Asked, reading: Reading, root: Resource | None
) -> dict[str, Any]:
    schema = schema_of(reading.context.registry, _kind(root))
    _refuse(document, faults(document, schema))
    result = execute(
        schema,
        document,
        reading.held(root) if root is not None else None,
        reading,
        asked.variables,
        asked.operation,
        executor_class=Counted,
    )
    done: ExecutionResult = result if isinstance(result, ExecutionResult) else await result
    _refuse(document, done.errors or [])
    return shaped(done.data or {}, operation, document, schema, reading.suffixes)


def _refuse(document: DocumentNode, errors: list[GraphQLError]) -> None:
    """Raise what went wrong: "a 200 with data, or an error", and nothing in between."""
    rows: Rows = []
    for error in errors[:MOST_ERRORS]:
        place: dict[str, Any] = {"locations": [each.formatted for each in error.locations or ()]}
        path = error.path or place_of(error, document)
        own = error.original_error
        cause = FhirError("invalid", error.message) if own is None or isinstance(own, GraphQLError) else own
        rows.append((cause, place | ({"path": path} if path else {})))
    if rows:
        raise Faults(rows)


def failed(rows: Rows, request: Request) -> Response:
    """Errors in GraphQL's words, each with its OperationOutcome; the first decides the status."""
    answers = [failure(error, request) for error, _ in rows]
    told = []
    for made, (error, place) in zip(answers, rows, strict=True):
        outcome: Any = decode(made.body)
        first = error.issues[0] if isinstance(error, FhirError) else None
        if first and first.line and not place:
            place = {"locations": [{"line": first.line, "column": first.column}]}
        message = outcome["issue"][0]["diagnostics"]
        told.append({"message": message, **place, "extensions": {"resource": outcome}})
    headers = answers[0].headers
    return Response(answers[0].status, headers, encode({"data": None, "errors": told}), media=JSON)


# Introspection


def _describes(operation: OperationDefinitionNode) -> bool:
    """Whether the whole schema is asked for; it is asked for alone, for its description leaves out what is endless."""
    chosen = operation.selection_set.selections
    names = {node.name.value for node in chosen if isinstance(node, FieldNode)}
    if "__schema" in names and (len(names) > 1 or len(names) < len(chosen)):
        raise FhirError("not-supported", "__schema is asked for alone.", "query")
    return "__schema" in names


async def _described(asked: Asked, registry: Registry, kind: str) -> Response:
    loop = asyncio.get_running_loop()
    body = await loop.run_in_executor(DESCRIBING, _description, asked.query, asked.operation, registry, kind)
    return Response(200, {}, body, media=JSON)


@lru_cache(maxsize=4)  # 3.5 s of work and 11 MB of text, the same for everybody
def _description(query: str, operation: str | None, registry: Registry, kind: str) -> bytes:
    """The schema, described without reverse references: every type has hundreds of them."""
    document, schema = parsed(query), schema_of(registry, kind, brief=True)
    _refuse(document, faults(document, schema))
    reading: Any = Describing()
    done = execute(schema, document, None, reading, {}, operation, executor_class=Counted)
    assert isinstance(done, ExecutionResult)
    _refuse(document, done.errors or [])
    return encode({"data": done.data})


class Describing:
    """The count of the values of a description."""

    def __init__(self) -> None:
        self.values = 0

    def count(self) -> None:
        """One more value; FhirError when there are too many."""
        self.values += 1
        if self.values > MOST_DESCRIBED:
            raise FhirError("too-costly", "The description would be too long; ask with __type.", "query")
