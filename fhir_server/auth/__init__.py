"""The SMART on FHIR authorization server on the wire: endpoints, pages, wiring."""
