"""A GraphQL document before it is carried out: parsed, its size weighed, checked against the schema."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from graphql import (
    DocumentNode,
    EnumValueNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLNonNull,
    GraphQLSchema,
    NullValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
    StringValueNode,
    Undefined,
    Visitor,
    get_named_type,
    is_leaf_type,
    is_list_type,
    is_non_null_type,
    parse,
    specified_rules,
    type_from_ast,
    validate,
    visit,
)
from graphql.validation import ValidationRule, VariablesInAllowedPositionRule

from fhir_server.graphql.narrowed import Narrowed
from profiles.outcome import FhirError, Issue

DEEPEST = 20  # levels of fields; the introspection that tools send has 15
MOST_FIELDS = 1_000  # fields selected, fragments written out
MOST_ALIKE = 100  # fields of one name in one place: comparing them pair by pair costs a millisecond here
MOST_TOKENS = 10_000
MOST_ERRORS = 20
TOO_MUCH = ("tokens", "nested too deeply")  # what the parser says of a document that it gives up
OWN_SCALARS = frozenset(("Int", "Boolean"))


def parsed(text: str) -> DocumentNode:
    """The document; FhirError with line and column where it is none, or is too large."""
    try:
        document = parse(text, max_tokens=MOST_TOKENS, no_location=False)
        Weighing(document).check()
        return visit(visit(document, Unquoted()), Narrowed())  # type: ignore[no-any-return]
    except GraphQLError as error:
        place = error.locations[0] if error.locations else None
        code = "too-costly" if any(words in error.message for words in TOO_MUCH) else "invalid"
        issue = Issue("error", code, error.message, (), place and place.line, place and place.column)
        raise FhirError(code, error.message, issues=[issue]) from None
    except RecursionError:
        raise FhirError("too-costly", "The query is nested too deeply.", "query") from None


class Unquoted(Visitor):
    """Names without quotes are text: the specification writes `name(use: official)`, and no argument is an enum."""

    def enter_enum_value(self, node: EnumValueNode, *rest: Any) -> StringValueNode:
        """The same as text."""
        return StringValueNode(value=node.value, block=False, loc=node.loc)


@dataclass(slots=True)
class Weighing:
    """The number of fields and levels of a document, each fragment looked at once."""

    document: DocumentNode
    fragments: dict[str, FragmentDefinitionNode] = field(default_factory=dict)
    known: dict[str, tuple[int, int]] = field(default_factory=dict)
    within: list[str] = field(default_factory=list)

    def check(self) -> None:
        """FhirError where there are too many of either, or a fragment contains itself."""
        rows = self.document.definitions
        self.fragments = {row.name.value: row for row in rows if isinstance(row, FragmentDefinitionNode)}
        for row in rows:
            if isinstance(row, OperationDefinitionNode | FragmentDefinitionNode):
                size, depth = self.weight(row.selection_set)
                if depth > DEEPEST:
                    raise FhirError("too-costly", f"The query has {depth} levels; {DEEPEST} are allowed.", "query")
                if size > MOST_FIELDS:
                    raise FhirError("too-costly", f"The query selects {size:,} fields; {MOST_FIELDS:,} are allowed.")

    def weight(self, chosen: SelectionSetNode | None) -> tuple[int, int]:
        """(fields, levels) of a selection."""
        if chosen is None:
            return 0, 0
        if not chosen.selections:
            raise FhirError("invalid", "A selection in braces is empty.", "query")
        rows = [self._of(node) for node in chosen.selections]
        names = Counter((n.alias or n.name).value for n in chosen.selections if isinstance(n, FieldNode))
        if names and names.most_common(1)[0][1] > MOST_ALIKE:
            raise FhirError("too-costly", f"The query selects one field more than {MOST_ALIKE} times.", "query")
        return sum(size for size, _ in rows), max((depth for _, depth in rows), default=0)

    def _of(self, node: Any) -> tuple[int, int]:
        if isinstance(node, FragmentSpreadNode):
            return self._fragment(node.name.value)
        size, depth = self.weight(node.selection_set)
        return (size + 1, depth + 1) if isinstance(node, FieldNode) else (size, depth)

    def _fragment(self, name: str) -> tuple[int, int]:
        if name in self.within:
            raise FhirError("invalid", f"The fragment {name} contains itself.", "query")
        if name not in self.known and name in self.fragments:
            self.within.append(name)
            self.known[name] = self.weight(self.fragments[name].selection_set)
            self.within.pop()
        return self.known.get(name, (0, 0))


class VariablesFit(ValidationRule):
    """Variables may stand where their type fits.

    Between FHIR's scalars and String and ID there is no difference: an `$id: ID!` may be a `token`; and one value may
    stand for a list.
    """

    def leave_operation_definition(self, operation: OperationDefinitionNode, *rest: Any) -> None:
        """Look at every use of a variable in the operation and its fragments."""
        context: Any = self.context
        defined = {row.variable.name.value: row for row in operation.variable_definitions or ()}
        for usage in context.get_recursive_variable_usages(operation):
            row = defined.get(usage.node.name.value)
            kind = row and type_from_ast(context.schema, row.type)
            if row and kind and usage.type and not _fits(kind, usage.type, row.default_value, usage.default_value):
                text = f"Variable '${row.variable.name.value}' of type '{kind}' used in position expecting type"
                self.report_error(GraphQLError(f"{text} '{usage.type}'.", [row, usage.node]))


def _fits(kind: Any, wanted: Any, default: Any, fallback: Any) -> bool:
    if is_non_null_type(wanted):
        has_default = default is not None and not isinstance(default, NullValueNode)
        if not is_non_null_type(kind) and not has_default and fallback is Undefined:
            return False
        wanted = wanted.of_type
    kind = kind.of_type if isinstance(kind, GraphQLNonNull) else kind
    if is_list_type(kind):
        return is_list_type(wanted) and _fits(kind.of_type, wanted.of_type, None, None)
    own, other = get_named_type(kind), get_named_type(wanted)
    alike = is_leaf_type(own) and is_leaf_type(other) and own.name not in OWN_SCALARS and other.name not in OWN_SCALARS
    return own is other or alike


RULES = tuple(VariablesFit if rule is VariablesInAllowedPositionRule else rule for rule in specified_rules)


def faults(document: DocumentNode, schema: GraphQLSchema) -> list[GraphQLError]:
    """What of the document the schema does not know."""
    return validate(schema, document, RULES, max_errors=MOST_ERRORS)


def place_of(error: GraphQLError, document: DocumentNode) -> list[str]:
    """The path of the field at fault: its names from the operation, or from the fragment that it is in."""
    wanted = {id(node) for node in error.nodes or ()}
    places = Places(wanted)
    visit(document, places)
    return places.found


class Places(Visitor):
    """The names that lead to the first of the nodes."""

    def __init__(self, wanted: set[int]) -> None:
        super().__init__()
        self.wanted = wanted
        self.path: list[str] = []
        self.found: list[str] = []

    def enter(self, node: Any, *rest: Any) -> None:
        """Down."""
        if isinstance(node, FieldNode):
            self.path.append((node.alias or node.name).value)
        if id(node) in self.wanted and not self.found:
            self.found = list(self.path)

    def leave(self, node: Any, *rest: Any) -> None:
        """Up again."""
        if isinstance(node, FieldNode):
            self.path.pop()
