"""The sentences of terminology answers and the issues that carry them, by the ids of the FHIR terminology ecosystem."""

from __future__ import annotations

from dataclasses import dataclass

from profiles.outcome import FhirError, Issue

ISSUE_TYPE = "http://hl7.org/fhir/tools/CodeSystem/tx-issue-type"


@dataclass(frozen=True, slots=True)
class Message:
    """Severity, issue type, tx-issue-type and text of one message; `told` puts a text that is no error in `message`."""

    severity: str
    code: str
    kind: str
    text: str
    told: bool = False
    id: str = ""


_NOT_VALIDATED = "could not be found, so the code cannot be validated"
_NOT_EXPANDED = "could not be found, so the value set cannot be expanded"
_REVIEW = "and its use should be reviewed"
_NO_VERSIONS = "No versions of this code system are known"
_ONE_OF = "Valid display is {choices} (for the language(s) '{languages}')"

MESSAGES: dict[str, Message] = {
    "UNKNOWN_CODESYSTEM": Message(
        "error", "not-found", "not-found", f"A definition for CodeSystem '{{system}}' {_NOT_VALIDATED}"
    ),
    "UNKNOWN_CODESYSTEM_FOREIGN": Message(
        "error",
        "not-found",
        "not-found",
        f"A definition for CodeSystem {{system}} {_NOT_VALIDATED}",
        id="UNKNOWN_CODESYSTEM",
    ),
    "UNKNOWN_CODESYSTEM_VERSION": Message(
        "error",
        "not-found",
        "not-found",
        f"A definition for CodeSystem '{{system}}' version '{{version}}' {_NOT_VALIDATED}. Valid versions: {{known}}",
    ),
    "UNKNOWN_CODESYSTEM_VERSION_NONE": Message(
        "error",
        "not-found",
        "not-found",
        f"A definition for CodeSystem '{{system}}' version '{{version}}' {_NOT_VALIDATED}. {_NO_VERSIONS}",
    ),
    "UNKNOWN_CODESYSTEM_EXP": Message(
        "error", "not-found", "not-found", f"A definition for CodeSystem '{{system}}' {_NOT_EXPANDED}"
    ),
    "UNKNOWN_CODESYSTEM_VERSION_EXP": Message(
        "error",
        "not-found",
        "not-found",
        f"A definition for CodeSystem '{{system}}' version '{{version}}' {_NOT_EXPANDED}. Valid versions: {{known}}",
    ),
    "UNKNOWN_CODESYSTEM_VERSION_EXP_NONE": Message(
        "error",
        "not-found",
        "not-found",
        f"A definition for CodeSystem '{{system}}' version '{{version}}' {_NOT_EXPANDED}. {_NO_VERSIONS}",
    ),
    "Unable_to_resolve_value_Set_": Message(
        "error", "not-found", "not-found", "A definition for the value Set '{url}' could not be found"
    ),
    "VS_EXP_IMPORT_UNK": Message("error", "not-found", "not-found", "Unable to find included value set '{url}'"),
    "VS_EXP_IMPORT_UNK_PINNED": Message(
        "error", "not-found", "not-found", "Unable to find included value set '{url}' version '{version}'"
    ),
    "VALUESET_CIRCULAR_REFERENCE": Message(
        "error",
        "processing",
        "vs-invalid",
        "Cyclic reference detected when excluding {url}: Found a circularity pointing to {vurl} processing ValueSet "
        "with pathway [{path}]",
    ),
    "VALUESET_TOO_COSTLY": Message(
        "error", "too-costly", "too-costly", "The value set '{url}' expansion has too many codes to produce ({size})"
    ),
    "VALUESET_SUPPLEMENT_MISSING": Message(
        "error", "not-found", "not-found", "Required supplement not found: {supplements}"
    ),
    "CODESYSTEM_CS_NO_SUPPLEMENT": Message(
        "error",
        "invalid",
        "invalid-data",
        "CodeSystem {system} is a supplement, so can't be used as a value in Coding.system",
    ),
    "Terminology_TX_System_ValueSet2": Message(
        "error", "invalid", "invalid-data", "The Coding references a value set, not a code system ('{system}')"
    ),
    "Terminology_TX_System_Relative": Message(
        "error", "invalid", "invalid-data", "Coding.system must be an absolute reference, not a local reference"
    ),
    "Coding_has_no_system__cannot_validate": Message(
        "warning",
        "invalid",
        "invalid-data",
        "Coding has no system. A code with no system has no defined meaning, and it cannot be validated. "
        "A system should be provided",
        told=True,
    ),
    "UNABLE_TO_INFER_CODESYSTEM": Message(
        "error",
        "not-found",
        "cannot-infer",
        "The System URI could not be determined for the code '{code}' in the ValueSet '{url}'",
    ),
    "Unable_to_resolve_system__value_set_has_multiple_matches": Message(
        "error",
        "not-found",
        "cannot-infer",
        "The System URI could not be determined for the code '{code}' in the ValueSet '{url}': "
        "value set expansion has multiple matches: [{systems}]",
    ),
    "Unknown_Code_in_Version": Message(
        "error",
        "code-invalid",
        "invalid-code",
        "Unknown code '{code}' in the CodeSystem '{system}' version '{version}'",
    ),
    "Unknown_Code_in": Message(
        "error", "code-invalid", "invalid-code", "Unknown code '{code}' in the CodeSystem '{system}'"
    ),
    "UNKNOWN_CODE_IN_FRAGMENT": Message(
        "warning",
        "code-invalid",
        "invalid-code",
        "Unknown Code '{code}' in the CodeSystem '{system}' version '{version}' - note that the code system is labeled "
        "as a fragment, so the code may be valid in some other fragment",
    ),
    "None_of_the_provided_codes_are_in_the_value_set_one": Message(
        "error", "code-invalid", "not-in-vs", "The provided code {codes} was not found in the value set '{url}'"
    ),
    "THIS_CODE_NOT_IN_VALUE_SET": Message(
        "information",
        "code-invalid",
        "this-code-not-in-vs",
        "The provided code {codes} was not found in the value set '{url}'",
        id="None_of_the_provided_codes_are_in_the_value_set_one",
    ),
    "TX_GENERAL_CC_ERROR_MESSAGE": Message(
        "error", "code-invalid", "not-in-vs", "No valid coding was found for the value set '{url}'"
    ),
    "ABSTRACT_CODE_NOT_ALLOWED": Message(
        "error", "business-rule", "code-rule", "Code '{system}#{code}' is abstract, and not allowed in this context"
    ),
    "STATUS_CODE_WARNING_CODE": Message(
        "error", "business-rule", "code-rule", "The concept '{code}' is valid but is not active"
    ),
    "CODE_CASE_DIFFERENCE": Message(
        "information",
        "business-rule",
        "code-rule",
        "The code '{code}' differs from the correct code '{correct}' by case. Although the code system '{system}' is "
        "case insensitive, implementers are strongly encouraged to use the correct case anyway",
    ),
    "INACTIVE_CONCEPT_FOUND": Message(
        "warning",
        "business-rule",
        "code-comment",
        f"The concept '{{code}}' has a status of {{status}} {_REVIEW}",
        told=True,
    ),
    "DEPRECATED_CONCEPT_FOUND": Message(
        "warning", "business-rule", "code-comment", f"The concept '{{code}}' is deprecated {_REVIEW}", told=True
    ),
    "CONCEPT_DEPRECATED_IN_VALUESET": Message(
        "warning",
        "business-rule",
        "code-comment",
        "The presence of the concept '{code}' in the system '{system}' in the value set {url} is marked with a status "
        f"of {{status}} {_REVIEW}",
    ),
    "Display_Name_for__should_be_one_of__instead_of": Message(
        "error",
        "invalid",
        "invalid-display",
        f"Wrong Display Name '{{display}}' for {{system}}#{{code}}. {_ONE_OF}",
        True,
    ),
    "Display_Name_WS_for__should_be_one_of__instead_of": Message(
        "error",
        "invalid",
        "invalid-display",
        f"Wrong whitespace in Display Name '{{display}}' for {{system}}#{{code}}. {_ONE_OF}",
        True,
    ),
    "NO_VALID_DISPLAY_FOUND_NONE_FOR_LANG_OK": Message(
        "information",
        "invalid",
        "invalid-display",
        "There are no valid display names found for the code {system}#{code} for language(s) '{languages}'. "
        "The display is '{display}' which is a valid display for the default language",
        True,
    ),
    "NO_VALID_DISPLAY_FOUND_NONE_FOR_LANG_ERR": Message(
        "error",
        "invalid",
        "invalid-display",
        "Wrong Display Name '{display}' for {system}#{code}. There are no valid display names found for language(s) "
        "'{languages}'. Default display is '{default}'",
        True,
    ),
    "NO_VALID_DISPLAY_AT_ALL": Message(
        "warning",
        "invalid",
        "invalid-display",
        "Cannot validate display Name '{display}' for {system}#{code}: No displays are known",
        True,
    ),
    "INACTIVE_DISPLAY_FOUND": Message(
        "warning",
        "invalid",
        "display-comment",
        "'{display}' is no longer considered a correct display for code '{code}' (status = {status}). "
        "The correct display is one of {choices}.",
    ),
    "VALUESET_VALUE_MISMATCH": Message(
        "error",
        "invalid",
        "vs-invalid",
        "The code system '{system}' version '{version}' in the ValueSet include is different to the one in the value "
        "('{given}')",
    ),
    "VALUESET_VALUE_MISMATCH_CHANGED": Message(
        "error",
        "invalid",
        "vs-invalid",
        "The code system '{system}' version '{version}' resulting from the version '{asked}' in the ValueSet include "
        "is different to the one in the value ('{given}')",
    ),
    "VALUESET_VALUE_MISMATCH_DEFAULT": Message(
        "warning",
        "invalid",
        "vs-invalid",
        "The code system '{system}' version '{version}' for the versionless include in the ValueSet include is "
        "different to the one in the value ('{given}')",
    ),
    "VALUESET_VERSION_CHECK": Message(
        "error",
        "exception",
        "version-error",
        "The version '{version}' is not allowed for system '{system}': required to be '{wanted}' by a version-check "
        "parameter",
    ),
    "SYSTEM_VERSION_MULTIPLE_OVERRIDE": Message(
        "error",
        "exception",
        "version-error",
        "Attempt to specify multiple different versions '{first}' and '{second}' for the system '{system}' by "
        "force-system-version parameters",
    ),
    "SYSTEM_VERSION_MULTIPLE_DEFAULT": Message(
        "error",
        "exception",
        "version-error",
        "Attempt to specify multiple different default versions '{first}' and '{second}' for the system '{system}' by "
        "system-version parameters",
    ),
    "UNABLE_TO_HANDLE_SYSTEM_FILTER_WITH_NO_VALUE": Message(
        "error",
        "invalid",
        "vs-invalid",
        "The system {system} filter with property = {property}, op = {op} has no value",
    ),
    "FILTER_NOT_UNDERSTOOD": Message(
        "error",
        "not-supported",
        "vs-invalid",
        'The filter "{property} {op} {value}" from the value set {url} was not understood in the context of {system}: '
        "{known}",
    ),
    "MSG_DEPRECATED": Message("information", "business-rule", "status-check", "Reference to deprecated {type} {url}"),
    "MSG_WITHDRAWN": Message("information", "business-rule", "status-check", "Reference to withdrawn {type} {url}"),
    "MSG_RETIRED": Message("information", "business-rule", "status-check", "Reference to retired {type} {url}"),
    "MSG_EXPERIMENTAL": Message(
        "information", "business-rule", "status-check", "Reference to experimental {type} {url}"
    ),
    "MSG_DRAFT": Message("information", "business-rule", "status-check", "Reference to draft {type} {url}"),
    "CODESYSTEM_INCOMPLETE": Message(
        "error",
        "business-rule",
        "invalid-data",
        "The code system definition for {system} is {content}, so its codes cannot be listed",
    ),
}


def issue(name: str, place: str = "", *, severity: str | None = None, **words: str | None) -> Issue:
    """The issue for a message; `place` is a FHIRPath into the request."""
    row = MESSAGES[name]
    return Issue(
        severity or row.severity,
        row.code,
        row.text.format(**words),
        (place,) if place else (),
        coding=(ISSUE_TYPE, row.kind),
        message_id=row.id or name,
    )


def told(name: str) -> bool:
    """Whether the message appears in the `message` of an answer though it may be no error."""
    return MESSAGES[name].told


def refuse(name: str, place: str = "", *, status: int | None = None, **words: str | None) -> FhirError:
    """The error for a message; `exception` and unresolved includes are the caller's fault here, never 500."""
    found = issue(name, place, **words)
    return FhirError.of([found], status=status or _STATUS.get(found.code))


_STATUS = {"exception": 422, "invalid": 400, "not-supported": 422, "processing": 422, "too-costly": 422}
