"""Implementation guides: HL7 package files installed offline, listed and removed (https://hl7.org/fhir/packages.html)."""
