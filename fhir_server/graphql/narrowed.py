"""`subject { resource(type: Patient) { birthDate } }`, the dense form of a type condition, written out.

R4 graphql.html has it beside `resource { ... on Patient { birthDate } }` and calls the two similar in effect; two of
them in one place are alternatives.
"""

from __future__ import annotations

from typing import Any

from graphql import (
    FieldNode,
    InlineFragmentNode,
    NamedTypeNode,
    NameNode,
    SelectionNode,
    SelectionSetNode,
    StringValueNode,
    Visitor,
)

from profiles.model import RESOURCE_TYPES


class Narrowed(Visitor):
    """What is selected of a resource of one type, as a fragment on that type."""

    def leave_field(self, node: FieldNode, *rest: Any) -> FieldNode | None:
        """The fragment within its field, which still leaves out what is of another type."""
        kind, chosen = _type_of(node), node.selection_set
        if not kind or chosen is None:
            return None
        on = NamedTypeNode(name=NameNode(value=kind, loc=node.loc), loc=node.loc)
        inside = InlineFragmentNode(type_condition=on, directives=(), selection_set=chosen, loc=chosen.loc)
        return _with(node, selection_set=SelectionSetNode(selections=(inside,), loc=chosen.loc))

    def leave_selection_set(self, node: SelectionSetNode, *rest: Any) -> SelectionSetNode | None:
        """Alternatives of one place as one field."""
        alike = [row for row in node.selections if isinstance(row, FieldNode) and not row.alias and _type_of(row)]
        if len({_type_of(row) for row in alike}) < 2:
            return None
        parts = [part for row in alike if row.selection_set for part in row.selection_set.selections]
        others = tuple(argument for argument in alike[0].arguments or () if argument.name.value != "type")
        whole = _with(alike[0], arguments=others, selection_set=SelectionSetNode(selections=tuple(parts)))
        kept: list[SelectionNode] = [whole if row is alike[0] else row for row in node.selections]
        return SelectionSetNode(selections=tuple(row for row in kept if row not in alike[1:]), loc=node.loc)


def _type_of(node: FieldNode) -> str:
    """The type that `resource(type: ...)` names by itself, no variable; empty where there is none."""
    if node.name.value != "resource":
        return ""
    given = [argument.value for argument in node.arguments or () if argument.name.value == "type"]
    named = [value.value for value in given if isinstance(value, StringValueNode)]
    return named[0] if named and named[0] in RESOURCE_TYPES else ""


def _with(node: FieldNode, **changes: Any) -> FieldNode:
    return FieldNode(**{key: getattr(node, key) for key in node.keys} | changes)
