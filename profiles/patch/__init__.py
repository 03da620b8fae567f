"""The patch formats of FHIR R4 (http://hl7.org/fhir/R4/http.html#patch): pure functions, resource to resource."""

from profiles.patch.diff import diff
from profiles.patch.fhirpath_patch import fhirpath_patch
from profiles.patch.json_patch import json_patch, merge_patch
from profiles.patch.xml_patch import xml_patch

__all__ = ["diff", "fhirpath_patch", "json_patch", "merge_patch", "xml_patch"]
