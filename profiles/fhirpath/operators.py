"""The operators on collections (N1 section Operations); each takes both collections and the run."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from profiles.fhirpath import quantity, temporal
from profiles.fhirpath.errors import FhirPathError
from profiles.fhirpath.nodes import FALSE, TRUE, Collection, Node, Run, boolean, decimal, integer, single, string
from profiles.fhirpath.quantity import MATH, Quantity
from profiles.fhirpath.temporal import Temporal
from profiles.fhirpath.values import converts, distinct, equals, equivalent, key, kind, order, unwrap

Operator = Callable[[Collection, Collection, Run], Collection]
MAX_TEXT = 1_000_000
_INTEGERS = (-(2**31), 2**31 - 1)
_LONGS = (-(2**63), 2**63 - 1)


def truth(items: Collection) -> bool | None:
    """A collection as a Boolean: empty is unknown, any other single item is true (section Singleton Evaluation)."""
    if not items:
        return None
    if len(items) > 1:
        raise FhirPathError(f"A Boolean is needed, not {len(items)} items")
    value = items[0].value
    return value if isinstance(value, bool) else True


def union(left: Collection, right: Collection, run: Run) -> Collection:
    """`|`: both, without repetitions."""
    run.spend(len(left) + len(right))
    return distinct(left + right)


def _equal(left: Collection, right: Collection, run: Run) -> Collection:
    if len(left) == 1 and len(right) == 1:
        a, b = left[0], right[0]
        # Two plain strings, such as a code and a constant: nothing to convert, a quarter of the time.
        if type(a.value) is str and type(b.value) is str and not converts(a.type) and not converts(b.type):
            return [TRUE if a.value == b.value else FALSE]
    run.spend(len(left))
    return boolean(equals(left, right))


def _not_equal(left: Collection, right: Collection, run: Run) -> Collection:
    run.spend(len(left))
    same = equals(left, right)
    return boolean(None if same is None else not same)


def _equivalent(left: Collection, right: Collection, run: Run) -> Collection:
    run.spend(len(left) * len(right))
    return boolean(equivalent(left, right))


def _not_equivalent(left: Collection, right: Collection, run: Run) -> Collection:
    run.spend(len(left) * len(right))
    return boolean(not equivalent(left, right))


def _comparison(accept: Callable[[int], bool], name: str) -> Operator:
    def compare(left: Collection, right: Collection, run: Run) -> Collection:
        a, b = single(left, name), single(right, name)
        if a is None or b is None:
            return []
        found = order(a, b)
        return [] if found is None else [TRUE if accept(found) else FALSE]

    return compare


def contains_item(items: Collection, item: Node, run: Run) -> bool:
    """Whether the item is in the collection, by `=`."""
    run.spend(len(items))
    wanted = key(unwrap(item))
    return any(key(unwrap(other)) == wanted for other in items)


def _in(left: Collection, right: Collection, run: Run) -> Collection:
    item = single(left, "in")
    return [] if item is None else boolean(contains_item(right, item, run))


def _contains(left: Collection, right: Collection, run: Run) -> Collection:
    item = single(right, "contains")
    return [] if item is None else boolean(contains_item(left, item, run))


def _xor(left: Collection, right: Collection, run: Run) -> Collection:
    a, b = truth(left), truth(right)
    return [] if a is None or b is None else boolean(a != b)


def _concatenate(left: Collection, right: Collection, run: Run) -> Collection:
    return [_joined(_text_of(left, run), _text_of(right, run))]


def _joined(a: str, b: str) -> Node:
    if len(a) + len(b) > MAX_TEXT:
        raise FhirPathError(f"A text grew over {MAX_TEXT} characters", "too-costly")
    return string(a + b)


def _text_of(items: Collection, run: Run) -> str:
    item = single(items, "&")
    value = unwrap(item) if item is not None and item.value is not None else ""
    if not isinstance(value, str):
        raise FhirPathError(f"& needs strings, not {kind(value) or 'a structure'}")
    run.spend(len(value) // 100)
    return value


def number(value: Decimal, like: tuple[Any, ...]) -> Collection:
    """A Decimal result, or an Integer when all operands were; empty on overflow (section Math)."""
    if not value.is_finite() or value.adjusted() > 300:
        return []
    if all(isinstance(v, int) for v in like):
        whole = int(value)
        low, high = _LONGS if max(map(abs, like)) > _INTEGERS[1] else _INTEGERS
        return [integer(whole)] if low <= whole <= high else []
    return [decimal(value)]


def _arithmetic(name: str, apply: Callable[[Any, Any], Collection | None]) -> Operator:
    def compute(left: Collection, right: Collection, run: Run) -> Collection:
        a, b = single(left, name), single(right, name)
        if a is None or b is None:
            return []
        x, y = unwrap(a), unwrap(b)
        if x is None or y is None:
            return []
        run.spend(1)
        found = apply(x, y)
        if found is None:
            raise FhirPathError(f"{name} is not defined for {_type_text(x)} and {_type_text(y)}")
        return found

    return compute


def _type_text(value: Any) -> str:
    return kind(value) or "a structure"


def is_number(value: Any) -> bool:
    """Integer or Decimal, but not Boolean."""
    return isinstance(value, (int, Decimal, float)) and not isinstance(value, bool)


def exact(value: Any) -> Decimal:
    """The number as a Decimal that is small enough to reckon with."""
    found = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    if found.is_finite() and abs(found.adjusted()) > 300:
        raise FhirPathError("A number is out of range", "too-costly")
    return found


def _numbers(x: Any, y: Any) -> bool:
    return is_number(x) and is_number(y)


def as_quantities(x: Any, y: Any) -> tuple[Quantity, Quantity] | None:
    """Both as quantities when at least one is and the other is one or a number."""
    if not (isinstance(x, Quantity) or isinstance(y, Quantity)):
        return None
    both = tuple(Quantity(exact(v), "1") if is_number(v) else v for v in (x, y))
    return both if all(isinstance(v, Quantity) for v in both) else None  # type: ignore[return-value]


def _quantity(value: Quantity | None) -> Collection:
    return [] if value is None else [Node(value, "System.Quantity")]


def _shift(sign: int) -> Callable[[Any, Any], Collection | None]:
    def shift(x: Any, y: Any) -> Collection | None:
        if _numbers(x, y):
            return number(MATH.add(exact(x), sign * exact(y)), (x, y))
        if isinstance(x, Temporal) and isinstance(y, Quantity):
            return [Node(temporal.add(x, sign * y.value, quantity.calendar_unit(y)), f"System.{x.kind}")]
        if isinstance(x, str) and isinstance(y, str) and sign > 0:
            return [_joined(x, y)]
        both = as_quantities(x, y)
        return None if both is None else _quantity(quantity.add(*both, sign))

    return shift


def _multiply(x: Any, y: Any) -> Collection | None:
    if _numbers(x, y):
        return number(MATH.multiply(exact(x), exact(y)), (x, y))
    both = as_quantities(x, y)
    return None if both is None else _quantity(quantity.multiply(*both, 1))


def _divide(x: Any, y: Any) -> Collection | None:
    if _numbers(x, y):
        divisor = exact(y)
        return number(MATH.divide(exact(x), divisor), ("",)) if divisor else []
    both = as_quantities(x, y)
    return None if both is None else _quantity(quantity.multiply(*both, -1))


def _whole_division(x: Any, y: Any) -> Collection | None:
    if not _numbers(x, y):
        return None
    divisor = exact(y)
    if not divisor:
        return []
    found = exact(x) / divisor if abs(exact(x)) < 10**20 else MATH.divide(exact(x), divisor)
    return [integer(int(found))] if found.adjusted() < 40 else []


def _modulo(x: Any, y: Any) -> Collection | None:
    if not _numbers(x, y):
        return None
    divisor = exact(y)
    dividend = exact(x)
    if not divisor or dividend.adjusted() - divisor.adjusted() > 30:
        return []
    return number(MATH.remainder(dividend, divisor), (x, y))


OPERATORS: dict[str, Operator] = {
    "=": _equal,
    "!=": _not_equal,
    "~": _equivalent,
    "!~": _not_equivalent,
    "<": _comparison(lambda sign: sign < 0, "<"),
    "<=": _comparison(lambda sign: sign <= 0, "<="),
    ">": _comparison(lambda sign: sign > 0, ">"),
    ">=": _comparison(lambda sign: sign >= 0, ">="),
    "in": _in,
    "contains": _contains,
    "xor": _xor,
    "&": _concatenate,
    "+": _arithmetic("+", _shift(1)),
    "-": _arithmetic("-", _shift(-1)),
    "*": _arithmetic("*", _multiply),
    "/": _arithmetic("/", _divide),
    "div": _arithmetic("div", _whole_division),
    "mod": _arithmetic("mod", _modulo),
}
