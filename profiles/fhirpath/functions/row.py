"""A row of the function table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Function(NamedTuple):
    """What a function is: how it runs, what its arguments are taken as, and how many there may be.

    takes: `nothing` (scope, items), `values` (scope, items, *collections), `programs` (scope, items, *programs),
    `type` (items, type name, strict), `keys` (scope, items, [(program, descending)]).
    """

    apply: Callable[..., Any]
    takes: str = "nothing"
    least: int = 0
    most: int = 0
