"""Who may do what: role and scope and launch context and compartment and labels and consent, as one formula.

Every rule is a formula over search clauses (smart_auth.formulas); access is their conjunction, and what no rule allows
is `NOTHING`. The server adds the formula to a query before it runs and evaluates it on an instance before it shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from smart_auth.compartments import SHARED, patient_formula
from smart_auth.consents import Asker, Holding, denials
from smart_auth.formulas import EVERYTHING, NOTHING, Formula, either, every, negate, where
from smart_auth.policies import CONFIDENTIALITY, Policy, Row
from smart_auth.scopes import Scope

# The interaction -> the verb of a scope (SMART 2.2, "Scopes for requesting clinical data").
VERB: Mapping[str, str] = {
    "read": "r",
    "vread": "r",
    "history-instance": "r",
    "search-type": "s",
    "search-system": "s",
    "history-type": "s",
    "history-system": "s",
    "create": "c",
    "update": "u",
    "patch": "u",
    "delete": "d",
}
# The audit trail is written by the server alone, whatever a role or a scope says.
READ_ONLY_TYPES = frozenset({"AuditEvent"})
# A consent is about the record of a patient: not what names none, nor the log of who looked at it.
NO_RECORD = SHARED | READ_ONLY_TYPES
WRITES = frozenset("cud")

# The code systems as R4 and as older senders write them, and not at all.
CONFIDENTIALITY_SYSTEMS = (
    "http://terminology.hl7.org/CodeSystem/v3-Confidentiality",
    "http://hl7.org/fhir/v3/Confidentiality",
    "urn:oid:2.16.840.1.113883.5.25",
    "",
)
SENSITIVITY_SYSTEMS = (
    "http://terminology.hl7.org/CodeSystem/v3-ActCode",
    "http://hl7.org/fhir/v3/ActCode",
    "urn:oid:2.16.840.1.113883.5.4",
    "",
)
# http://terminology.hl7.org/ValueSet/v3-InformationSensitivityPolicy: the codes that need a policy's own label.
SENSITIVE = (
    *("EMP", "DIA", "DRGIS", "PDS", "PHY", "PRS", "ADOL", "CEL", "VIP"),
    *("ETH", "GDIS", "HIV", "IDS", "MST", "PREGNANT", "SCA", "SDV", "SEX", "SICKLE", "STD", "TBOO", "VIO"),
    *("SPI", "BH", "COGN", "DVD", "EMOTDIS", "MH", "PSY", "PSYTHPN", "SUD", "ETHUD", "OPIOIDUD"),
    *("DEMO", "DOB", "GENDER", "LIVARG", "MARST", "PATLOC", "RACE", "REL"),
    *("B", "EMPL", "LOCIS", "SSP"),
)
LABELLED = ("_security:missing", "false")


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller of a request, as the token and the user's record say it.

    `patients` are the compartments the user owns (a Patient's own id, those of a RelatedPerson); `patient` is the one
    patient of the launch context. `glass` is the end of a break-glass session, or None.
    """

    tenant: str
    client: str
    scopes: tuple[Scope, ...]
    policies: tuple[Policy, ...]
    user: str | None = None
    fhir_user: str | None = None
    patients: tuple[str, ...] = ()
    patient: str | None = None
    encounter: str | None = None
    actors: frozenset[str] = frozenset()
    purpose: str = "TREAT"
    glass: datetime | None = None
    name: str = ""
    token: str = ""

    def breaks_glass(self, now: datetime) -> bool:
        """Whether an emergency session of a role that may have one is running."""
        return self.glass is not None and now < self.glass and any(policy.break_glass for policy in self.policies)


@dataclass(frozen=True, slots=True)
class World:
    """What access depends on besides the caller: compartment table, search parameters, consents and the clock."""

    codes: Callable[[str], Iterable[str]]
    holding: Holding
    consents: tuple[Mapping[str, Any], ...] = ()
    now: Callable[[], datetime] = datetime.now


@dataclass(frozen=True, slots=True)
class Access:
    """What of a type a caller may reach with a verb: the formula, and the elements that are hidden from them."""

    formula: Formula
    hidden: frozenset[str] = frozenset()

    @property
    def none(self) -> bool:
        """Whether type or verb is not granted at all: the answer is 403, not 404."""
        return self.formula == NOTHING


def access(principal: Principal, kind: str, verb: str, world: World) -> Access:
    """The caller's access to a type with one verb of `cruds`; deny by default.

    Who is not shown all elements of a type cannot update it: what is hidden would be lost.
    """
    if kind in READ_ONLY_TYPES and verb in WRITES:
        return Access(NOTHING)
    rows = _rows(principal, kind, verb)
    parts = [either(_row(row, principal, kind, world, verb) for row in rows), _scopes(principal, kind, verb, world)]
    hidden = _hidden(rows)
    blind = verb == "u" and bool(hidden | _hidden(_rows(principal, kind, "r")))
    if blind or every(parts) == NOTHING:
        return Access(NOTHING)
    return Access(every([*parts, *_restrictions(principal, kind, verb, world)]), hidden)


def reachable(principal: Principal, kind: str, world: World) -> Access:
    """Access to a resource that a search includes: reading or searching it must be granted."""
    read, search = (access(principal, kind, verb, world) for verb in "rs")
    return Access(either([read.formula, search.formula]), read.hidden | search.hidden)


def unmarked(principal: Principal, kind: str, world: World) -> Access:
    """What labels and consents leave of a type, whatever else is granted: those of the newest version count for all.

    They may have been set later, to "apply access rules to existing versions" (R4 resource-operation-meta-add.html).
    """
    return Access(every(_restrictions(principal, kind, "r", world)))


def _rows(principal: Principal, kind: str, verb: str) -> tuple[Row, ...]:
    rows = (row for policy in principal.policies for row in policy.rows)
    return tuple(row for row in rows if verb in row.verbs and ("*" in row.types or kind in row.types))


def _row(row: Row, principal: Principal, kind: str, world: World, verb: str) -> Formula:
    pairs = ((name, value.replace("{fhirUser}", principal.fhir_user or "-")) for name, value in row.where)
    own = _of_patients(kind, principal.patients, world, verb) if row.own else EVERYTHING
    return every([where(*pairs), own])


def _scopes(principal: Principal, kind: str, verb: str, world: World) -> Formula:
    granted = (s for s in principal.scopes if verb in s.verbs and s.type in ("*", kind))
    return either(every([where(*scope.clauses), _context(scope, principal, kind, verb, world)]) for scope in granted)


def _context(scope: Scope, principal: Principal, kind: str, verb: str, world: World) -> Formula:
    """What the scope's context allows: a patient's compartment, a user's own rights, or a system's."""
    if scope.context == "patient":
        patients = (principal.patient,) if principal.patient else ()
        return _of_patients(kind, patients, world, verb)
    user = principal.user is not None
    return EVERYTHING if (scope.context == "user") == user else NOTHING


def _of_patients(kind: str, patients: tuple[str, ...], world: World, verb: str) -> Formula:
    """What of a type belongs to the patients; of a Binary the resource that it names decides, so it must name one."""
    if kind == "Binary":
        return where(("security-context:missing", "false")) if patients else NOTHING
    return patient_formula(kind, patients, world.codes, write=verb in WRITES)


def _hidden(rows: tuple[Row, ...]) -> frozenset[str]:
    """Elements no rule shows; rules with conditions hide together, as the instance decides which one applies."""
    open_rows = [row.hidden for row in rows if not row.where and not row.own]
    if open_rows:
        return frozenset.intersection(*open_rows)
    return frozenset(name for row in rows for name in row.hidden)


def _restrictions(principal: Principal, kind: str, verb: str, world: World) -> list[Formula]:
    now = world.now()
    if principal.breaks_glass(now):
        return []
    parts = _labels(principal)
    if world.consents and verb != "c" and kind not in NO_RECORD:
        asker = Asker(principal.actors, principal.purpose, now)
        parts.append(negate(_denied(principal, kind, asker, world)))
    return parts


def _denied(principal: Principal, kind: str, asker: Asker, world: World) -> Formula:
    return denials(
        world.consents, kind, asker, world.holding, lambda patients: patient_formula(kind, patients, world.codes)
    )


def _labels(principal: Principal) -> list[Formula]:
    """Security labels above the caller's clearance, and sensitive ones without a policy that names them."""
    if not principal.policies:
        return [NOTHING]
    clearance = max(CONFIDENTIALITY.index(policy.clearance) for policy in principal.policies)
    held = frozenset(label for policy in principal.policies for label in policy.labels)
    above = CONFIDENTIALITY[clearance + 1 :]
    tokens = [f"{system}|{code}" for system in CONFIDENTIALITY_SYSTEMS for code in above]
    if "*" not in held:
        secret = [code for code in SENSITIVE if code not in held]
        tokens += [f"{system}|{code}" for system in SENSITIVITY_SYSTEMS for code in secret]
    # Most resources have no label at all, and that is one look instead of a hundred.
    return [negate(where(LABELLED, ("_security", ",".join(tokens))))] if tokens else []
