"""What a process has ready before the first request needs it."""

from __future__ import annotations

import asyncio

from fhir_server.opening import COMMON, warm_up
from profiles.validate import check
from profiles.validate.fast import validator


def test_the_first_check_of_a_common_type_compiles_nothing() -> None:
    asyncio.run(warm_up())
    made = validator.cache_info().misses
    for name in COMMON:
        check({"resourceType": name})
    assert validator.cache_info().misses == made
