"""What the rows of the tables EMIT and MATCH look like."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from search.clauses import Clause
from search.params import Parameter
from search.values import Around

Add: TypeAlias = Callable[[str], object]
# (value, add an entry, the server's base url)
Emit: TypeAlias = Callable[[Any, Add, str], None]
# key -> emit
Emitter: TypeAlias = Callable[[str], Emit]
# (parameter, one value of the query, what it is read against) -> clause
Match: TypeAlias = Callable[[Parameter, str, Around], Clause]


def presence(key: str) -> Emit:
    """A value that nothing can ask for but `:missing`."""

    def emit(value: Any, add: Add, base: str) -> None:
        add(key)

    return emit
