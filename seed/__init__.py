"""The synthetic hospital: deterministic by random seed, built with fhir.resources models, no real person in it."""

from seed.generate import AS_OF, generate
from seed.mix import mix

__all__ = ["AS_OF", "generate", "mix"]
