"""FHIR over HTTP: what comes in and goes out, before and after an interaction."""
