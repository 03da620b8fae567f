"""GraphQL types whose fields are made when they are first asked for: whole, the schema has some 60,000 parts."""

from __future__ import annotations

from collections.abc import Callable, Collection, ItemsView, Iterator, KeysView, ValuesView
from functools import cached_property
from typing import Any, TypeVar

from graphql import (
    GraphQLAbstractType,
    GraphQLDirective,
    GraphQLInputObjectType,
    GraphQLObjectType,
    GraphQLSchema,
)
from graphql.type.schema import InterfaceImplementations

from fhir_server.graphql.scalars import NATIVE
from profiles.model import RESOURCE_TYPES

V = TypeVar("V")


class Lazy(dict[str, V]):
    """A mapping of known names whose values are made when they are first asked for."""

    def __init__(self, names: Collection[str], make: Callable[[str], V]) -> None:
        super().__init__()
        self._names = dict.fromkeys(names)
        self._make = make

    def __missing__(self, name: str) -> V:
        if name not in self._names:
            raise KeyError(name)
        made = self[name] = self._make(name)
        return made

    def get(self, name: Any, default: Any = None) -> Any:
        """The value, made now if need be."""
        return self[name] if name in self._names else default

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def keys(self) -> KeysView[str]:  # type: ignore[override]
        """All names."""
        return KeysView(self)

    def values(self) -> ValuesView[V]:  # type: ignore[override]
        """All values, each made now."""
        return ValuesView(self)

    def items(self) -> ItemsView[str, V]:  # type: ignore[override]
        """All names with their values, each made now."""
        return ItemsView(self)


class Object(GraphQLObjectType):
    """An object type with lazy fields."""

    def __init__(self, name: str, fields: Callable[[], Lazy[Any]], interfaces: Any = None) -> None:
        super().__init__(name, {}, interfaces)
        self._lazy = fields

    @cached_property
    def fields(self) -> Any:
        """The fields by name."""
        return self._lazy()


class Input(GraphQLInputObjectType):
    """An input type with lazy fields."""

    def __init__(self, name: str, fields: Callable[[], Lazy[Any]]) -> None:
        super().__init__(name, {})
        self._lazy = fields

    @cached_property
    def fields(self) -> Any:
        """The fields by name."""
        return self._lazy()


class Schema(GraphQLSchema):
    """A schema over lazy types: valid as it is made, so nothing of it is looked at before it is used."""

    def __init__(
        self, named: Lazy[Any], directives: tuple[GraphQLDirective, ...], query: str, mutation: str | None
    ) -> None:
        super().__init__(directives=directives, assume_valid=True)
        self._named = named
        self.query_type = named[query]
        self.mutation_type = named[mutation] if mutation else None
        own = dict(self.type_map) | {kind.name: kind for kind in NATIVE.values()}
        self.type_map = Lazy([*own, *named], lambda name: own.get(name) or named[name])

    def get_possible_types(self, abstract_type: GraphQLAbstractType) -> list[GraphQLObjectType]:
        """Resource is the one abstract type."""
        return [self._named[name] for name in sorted(RESOURCE_TYPES)]

    def get_implementations(self, interface_type: Any) -> InterfaceImplementations:
        """What can stand where any resource can."""
        return InterfaceImplementations(objects=self.get_possible_types(interface_type), interfaces=[])

    def is_sub_type(self, abstract_type: GraphQLAbstractType, maybe_sub_type: Any) -> bool:
        """Whether it is a type of resources."""
        return maybe_sub_type.name in RESOURCE_TYPES
