"""One file for each interaction of the RESTful API (http://hl7.org/fhir/R4/http.html)."""
