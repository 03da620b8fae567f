"""FHIRPath for R4: parser, compiler to closures, all functions of the specification and FHIR's own."""

from __future__ import annotations

from profiles.fhirpath.errors import FhirPathError
from profiles.fhirpath.expression import Expression, compile, evaluate
from profiles.fhirpath.nodes import Environment, Node
from profiles.fhirpath.parser import parse

__all__ = ["Environment", "Expression", "FhirPathError", "Node", "compile", "evaluate", "parse"]
