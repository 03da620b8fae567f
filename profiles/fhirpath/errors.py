"""The one error of FHIRPath: a fault in an expression or in what it was applied to."""

from __future__ import annotations

from profiles.outcome import FhirError


class FhirPathError(FhirError):
    """An expression that cannot be parsed or evaluated; code 'invalid', with the place where it is known."""

    def __init__(self, text: str, code: str = "invalid") -> None:
        super().__init__(code, text)
