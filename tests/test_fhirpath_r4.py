"""Everything R4 itself writes in FHIRPath: search expressions and invariants."""

from __future__ import annotations

import pytest

from profiles import model
from profiles.fhirpath import compile


def test_every_search_expression_compiles() -> None:
    """All 1,375 search parameters and the parts of the composites."""
    expressions = [p.expression for p in model.SEARCH_PARAMETERS]
    expressions += [expression for p in model.SEARCH_PARAMETERS for _, expression in p.components]
    assert len(expressions) > 1400
    for expression in filter(None, expressions):
        compile(expression)


@pytest.mark.parametrize("key", sorted(model.INVARIANTS))
def test_every_invariant_compiles(key: str) -> None:
    """Each rule of R4's definitions."""
    expression = model.INVARIANTS[key].expression
    if expression:
        compile(expression)
