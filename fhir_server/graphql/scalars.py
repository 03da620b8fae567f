"""Scalars: FHIR's primitive types, and the types of search parameters for arguments."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from graphql import (
    BooleanValueNode,
    FloatValueNode,
    GraphQLBoolean,
    GraphQLError,
    GraphQLID,
    GraphQLInt,
    GraphQLScalarType,
    GraphQLString,
    IntValueNode,
    ListValueNode,
    NullValueNode,
    ObjectValueNode,
    StringValueNode,
)

from profiles.json import decimal
from profiles.model import PRIMITIVES

# Scalars that GraphQL has itself; the others carry FHIR's names.
NATIVE: dict[str, GraphQLScalarType] = {
    "boolean": GraphQLBoolean,
    "integer": GraphQLInt,
    "positiveInt": GraphQLInt,
    "unsignedInt": GraphQLInt,
    "string": GraphQLString,
    "id": GraphQLID,
}
# What an argument with the type of a search parameter takes: text, a number, true or false.
SEARCH = ("token", "reference", "number", "quantity", "composite", "special")
ANY_INPUT = "ResourceInput"

READ: dict[type, Any] = {
    StringValueNode: lambda node: node.value,
    BooleanValueNode: lambda node: node.value,
    IntValueNode: lambda node: int(decimal(node.value)),
    FloatValueNode: lambda node: decimal(node.value),
}


def _as_is(value: Any) -> Any:
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, str | int | Decimal):
        return value
    raise GraphQLError("Text, a number, true or false is needed here.")


def _literal(node: Any) -> Any:
    read = READ.get(type(node))
    if read is None:
        raise GraphQLError("Text, a number, true or false is needed here.", node)
    try:
        return read(node)
    except ValueError as error:
        raise GraphQLError(str(error), node) from None


def _whole(node: Any) -> Any:
    """Any literal as JSON: a contained resource may be of any type, and GraphQL has no unions of inputs."""
    if isinstance(node, ObjectValueNode):
        return {each.name.value: _whole(each.value) for each in node.fields}
    if isinstance(node, ListValueNode):
        return [_whole(each) for each in node.values]
    return None if isinstance(node, NullValueNode) else _literal(node)


def scalar(name: str) -> GraphQLScalarType:
    """The scalar of a name."""
    if name == ANY_INPUT:
        text = "A resource of any type, as a JSON object."
        return GraphQLScalarType(name, coerce_input_value=_as_is, coerce_input_literal=_whole, description=text)
    text = f"The FHIR type {name}." if name in PRIMITIVES else f"The value of a {name} search parameter."
    return GraphQLScalarType(
        name,
        coerce_output_value=_as_is,
        coerce_input_value=_plain,
        coerce_input_literal=_literal,
        description=text,
    )


SCALARS = (*(name for name in PRIMITIVES if name not in NATIVE), *SEARCH, ANY_INPUT)
