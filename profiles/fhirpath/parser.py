"""Parser of FHIRPath: text to a tree of plain values (grammar: http://hl7.org/fhirpath/N1/grammar.html)."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeAlias

from profiles.fhirpath.errors import FhirPathError
from profiles.fhirpath.lexer import Token, tokens

MAX_DEPTH = 64
MAX_CHAIN = 200


@dataclass(frozen=True, slots=True)
class Literal:
    """A constant: kind is Empty, Boolean, String, Integer, Long, Decimal, Date, DateTime, Time or Quantity."""

    kind: str
    value: Any
    unit: str = ""
    calendar: bool = False


@dataclass(frozen=True, slots=True)
class Name:
    """A member, or at the start of an expression perhaps a type."""

    name: str


@dataclass(frozen=True, slots=True)
class Special:
    """`$this`, `$index` or `$total`."""

    name: str


@dataclass(frozen=True, slots=True)
class Variable:
    """`%name`."""

    name: str


@dataclass(frozen=True, slots=True)
class Call:
    """A function with its arguments."""

    name: str
    args: tuple[Tree, ...]


@dataclass(frozen=True, slots=True)
class Chain:
    """`first.step.step`: the invocations in their order; an index is an `Index` step."""

    first: Tree
    steps: tuple[Tree, ...]


@dataclass(frozen=True, slots=True)
class Index:
    """`[expression]` as a step of a chain."""

    index: Tree


@dataclass(frozen=True, slots=True)
class Unary:
    """`-x` or `+x`."""

    operator: str
    operand: Tree


@dataclass(frozen=True, slots=True)
class Binary:
    """Two operands and the operator between them."""

    operator: str
    left: Tree
    right: Tree


@dataclass(frozen=True, slots=True)
class Union:
    """`a | b | c` as one list."""

    parts: tuple[Tree, ...]


@dataclass(frozen=True, slots=True)
class TypeTest:
    """`x is T` or `x as T`."""

    operator: str
    operand: Tree
    type: str


@dataclass(frozen=True, slots=True)
class Sorted:
    """A sort key with its direction: `sort(family desc)`."""

    key: Tree
    descending: bool


Tree: TypeAlias = (
    "Literal | Name | Special | Variable | Call | Chain | Index | Unary | Binary | Union | TypeTest | Sorted"
)

# How tightly an operator binds, by the table «Operator precedence»; unary and invocation are above all of them.
_BINDING = {
    **dict.fromkeys(("*", "/", "div", "mod"), 10),
    **dict.fromkeys(("+", "-", "&"), 9),
    **dict.fromkeys(("is", "as"), 8),
    "|": 7,
    **dict.fromkeys(("<=", "<", ">", ">="), 6),
    **dict.fromkeys(("=", "~", "!=", "!~"), 5),
    **dict.fromkeys(("in", "contains"), 4),
    "and": 3,
    **dict.fromkeys(("or", "xor"), 2),
    "implies": 1,
}
_WORDS = frozenset(("div", "mod", "is", "as", "in", "contains", "and", "or", "xor", "implies"))
_RESERVED = frozenset(("div", "mod", "and", "or", "xor", "implies", "true", "false"))
# One calendar word per unit; plurals mean the same.
CALENDAR = {
    word + ending: word
    for word in ("year", "month", "week", "day", "hour", "minute", "second", "millisecond")
    for ending in ("", "s")
}
_TYPED_LITERALS = {"date": "Date", "datetime": "DateTime", "time": "Time"}


def parse(expression: str) -> Tree:
    """The tree of an expression; raises FhirPathError where the text does not follow the grammar."""
    parser = _Parser(tokens(expression), expression)
    tree = parser.expression(0)
    parser.expect("end", "")
    return tree


class _Parser:
    """Reading position in the tokens; a precedence climber."""

    __slots__ = ("_at", "_depth", "_text", "_tokens")

    def __init__(self, row: list[Token], text: str) -> None:
        self._tokens = row
        self._text = text
        self._at = 0
        self._depth = 0

    def expression(self, floor: int) -> Tree:
        """An expression whose operators bind tighter than `floor`."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise FhirPathError(f"The FHIRPath expression is nested deeper than {MAX_DEPTH}", "too-costly")
        left = self._unary()
        for _ in range(MAX_CHAIN):
            operator = self._operator()
            binding = _BINDING.get(operator, 0)
            if binding <= floor:
                self._depth -= 1
                return left
            self._at += 1
            left = self._combine(operator, left, binding)
        raise FhirPathError(f"More than {MAX_CHAIN} operators in one row", "too-costly")

    def expect(self, kind: str, text: str) -> Token:
        """The next token, which must be this one."""
        token = self._tokens[self._at]
        if token.kind != kind or (text and token.text != text):
            raise self._unexpected(token)
        self._at += 1
        return token

    def _combine(self, operator: str, left: Tree, binding: int) -> Tree:
        if operator in ("is", "as"):
            return TypeTest(operator, left, self._type_name())
        right = self.expression(binding)
        if operator == "|":
            parts = left.parts if isinstance(left, Union) else (left,)
            return Union((*parts, right))
        return Binary(operator, left, right)

    def _operator(self) -> str:
        token = self._tokens[self._at]
        if token.kind == "symbol" or (token.kind == "name" and token.text in _WORDS):
            return token.text
        return ""

    def _unary(self) -> Tree:
        token = self._tokens[self._at]
        if token.kind == "symbol" and token.text in "+-":
            self._at += 1
            self._depth += 1
            if self._depth > MAX_DEPTH:
                raise FhirPathError(f"The FHIRPath expression is nested deeper than {MAX_DEPTH}", "too-costly")
            operand = self._unary()
            self._depth -= 1
            return Unary(token.text, operand)
        return self._chain()

    def _chain(self) -> Tree:
        first = self._term()
        steps: list[Tree] = []
        while True:
            token = self._tokens[self._at]
            if token.kind != "symbol" or token.text not in (".", "["):
                break
            self._at += 1
            steps.append(self._invocation(after_dot=True) if token.text == "." else self._index())
        if not steps:
            return first
        return Chain(first, tuple(steps))

    def _index(self) -> Tree:
        index = self.expression(0)
        self.expect("symbol", "]")
        return Index(index)

    def _term(self) -> Tree:
        token = self._tokens[self._at]
        if token.kind == "symbol":
            return self._bracketed(token)
        if token.kind == "variable":
            self._at += 1
            return Variable(token.text)
        if token.kind in ("string", "number", "long", *_TYPED_LITERALS):
            self._at += 1
            return self._literal(token)
        if token.kind == "name" and token.text in ("true", "false"):
            self._at += 1
            return Literal("Boolean", token.text == "true")
        return self._invocation()

    def _bracketed(self, token: Token) -> Tree:
        if token.text == "(":
            self._at += 1
            inner = self.expression(0)
            self.expect("symbol", ")")
            # A chain inside parentheses stays a chain of its own; a union must not melt into its neighbour.
            return Chain(inner, ()) if isinstance(inner, Union) else inner
        if token.text == "{":
            self._at += 1
            self.expect("symbol", "}")
            return Literal("Empty", None)
        raise self._unexpected(token)

    def _literal(self, token: Token) -> Tree:
        if token.kind == "string":
            return Literal("String", token.text)
        if token.kind == "long":
            return Literal("Long", int(token.text[:-1]))
        if token.kind in _TYPED_LITERALS:
            return Literal(_TYPED_LITERALS[token.kind], token.text.lstrip("@").removeprefix("T"))
        return self._number(token)

    def _number(self, token: Token) -> Tree:
        after = self._tokens[self._at]
        if after.kind == "string":
            self._at += 1
            return Literal("Quantity", Decimal(token.text), after.text)
        if after.kind == "name" and after.text in CALENDAR:
            self._at += 1
            return Literal("Quantity", Decimal(token.text), CALENDAR[after.text], calendar=True)
        if "." in token.text:
            return Literal("Decimal", Decimal(token.text))
        return Literal("Integer", int(token.text))

    def _invocation(self, after_dot: bool = False) -> Tree:
        """A member or function; behind a dot a keyword can only be a member (`Narrative.div`)."""
        token = self._tokens[self._at]
        if token.kind == "special":
            self._at += 1
            return Special(token.text)
        if token.kind == "delimited" or (token.kind == "name" and (after_dot or token.text not in _RESERVED)):
            self._at += 1
            if self._tokens[self._at].kind == "symbol" and self._tokens[self._at].text == "(":
                self._at += 1
                return Call(token.text, self._arguments(token.text))
            return Name(token.text)
        raise self._unexpected(token)

    def _arguments(self, function: str) -> tuple[Tree, ...]:
        if self._tokens[self._at][:2] == ("symbol", ")"):
            self._at += 1
            return ()
        args: list[Tree] = []
        while True:
            args.append(self._argument(function))
            token = self._tokens[self._at]
            self._at += 1
            if token[:2] == ("symbol", ")"):
                return tuple(args)
            if token[:2] != ("symbol", ","):
                raise self._unexpected(token)

    def _argument(self, function: str) -> Tree:
        tree = self.expression(0)
        token = self._tokens[self._at]
        if function == "sort" and token.kind == "name" and token.text in ("asc", "desc"):
            self._at += 1
            return Sorted(tree, token.text == "desc")
        return tree

    def _type_name(self) -> str:
        parts = [self._identifier()]
        while self._tokens[self._at][:2] == ("symbol", "."):
            following = self._tokens[min(self._at + 2, len(self._tokens) - 1)]
            if following[:2] == ("symbol", "("):
                break
            self._at += 1
            parts.append(self._identifier())
        return ".".join(parts)

    def _identifier(self) -> str:
        token = self._tokens[self._at]
        if token.kind not in ("name", "delimited"):
            raise self._unexpected(token)
        self._at += 1
        return token.text

    def _unexpected(self, token: Token) -> FhirPathError:
        what = f"{token.text!r} at offset {token.at}" if token.kind != "end" else "end"
        return FhirPathError(f"Unexpected {what} of the FHIRPath expression: {self._text[:200]}")
