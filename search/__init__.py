"""What a FHIR search means: parameters, parsed queries, index entries, filters and matching in memory; no I/O here."""
