"""Access formulas: deny by default, every rule only narrows, consents and labels are kept."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiles.outcome import FhirError
from smart_auth import access, formulas, policies, scopes
from smart_auth.access import Principal, World
from smart_auth.compartments import foreign_patient, patient_formula
from smart_auth.formulas import EVERYTHING, NOTHING, Formula, Pair, either, every, holds, negate, where
from smart_auth.policies import Policy, Row, policy
from smart_auth.scopes import Scope
from tests import terminology_world

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
CODES = {
    "AuditEvent": ("patient",),
    "Observation": ("subject", "performer"),
    "Appointment": ("actor",),
    "Condition": ("patient", "asserter"),
}
R = access.CONFIDENTIALITY_SYSTEMS[0] + "|R"


def codes(kind: str) -> tuple[str, ...]:
    return CODES.get(kind, ())


def world(*consents: dict[str, Any]) -> World:
    return World(codes, lambda _kind, what: ("code",) if what == "concept" else ("date",), consents, lambda: NOW)


def role(name: str) -> Policy:
    return policy(policies.default_policies()[name])


def caller(scope: str, *roles: str, **more: Any) -> Principal:
    parsed = scopes.parse(scope)
    assert parsed is not None
    return Principal("default", "app", parsed.clinical, tuple(role(name) for name in roles), **more)


def nurse(scope: str = "user/*.cruds", **more: Any) -> Principal:
    return caller(scope, "Nurse", user="nora", fhir_user="Practitioner/1", actors=frozenset({"Practitioner/1"}), **more)


def visible(formula: Formula, **fields: str) -> bool:
    """Whether a resource with these values (`code="a b"` has two) is inside; `:missing` as in a search."""

    def leaf(pairs: tuple[Pair, ...]) -> bool:
        return all(_match(fields, name, value) for name, value in pairs)

    return holds(formula, leaf)


def _match(fields: dict[str, str], name: str, value: str) -> bool:
    name, _, modifier = name.partition(":")
    held = fields.get(name.lstrip("_"), "").split()
    return (not held) == (value == "true") if modifier == "missing" else bool(set(held) & set(value.split(",")))


def test_nothing_is_granted_without_policy_or_scope() -> None:
    """Deny by default: no policy, no scope, or a type nobody mapped is refused."""
    everything = caller("user/*.cruds", user="x")
    assert access.access(everything, "Patient", "r", world()).none
    assert access.access(nurse(""), "Patient", "r", world()).none
    assert access.access(nurse(), "Claim", "r", world()).none
    assert not access.access(nurse(), "Patient", "r", world()).none


@pytest.mark.parametrize("verb", "cud")
def test_s01_a_reading_scope_writes_nothing(verb: str) -> None:
    """patient/Observation.rs allows no create, update or delete, whatever the role allows."""
    reader = nurse("patient/Observation.rs", patient="P1")
    assert access.access(reader, "Observation", verb, world()).none
    assert not access.access(reader, "Observation", "s", world()).none


def test_patient_scopes_reach_one_compartment() -> None:
    """Patient-specific scopes allow access to specific data about a single patient."""
    formula = access.access(nurse("patient/*.rs", patient="P1"), "Observation", "s", world()).formula
    assert visible(formula, subject="Patient/P1")
    assert not visible(formula, subject="Patient/P2", performer="Patient/P1")
    assert visible(formula, performer="Patient/P1")
    assert not visible(formula)


def test_patient_scope_without_a_patient_in_context_is_nothing() -> None:
    """A patient scope needs a patient; without one it grants nothing."""
    assert access.access(nurse("patient/*.cruds"), "Observation", "r", world()).none


def test_directory_types_are_readable_in_a_patient_context_but_never_writable() -> None:
    """Practitioners belong to nobody; a patient scope reads them and cannot change them."""
    doctor = caller("patient/*.cruds", "Admin", user="a", patient="P1")
    assert access.access(doctor, "Practitioner", "r", world()).formula == EVERYTHING
    assert access.access(doctor, "Practitioner", "u", world()).none
    assert access.access(doctor, "Group", "r", world()).none
    named = where(("security-context:missing", "false"))
    assert access.access(doctor, "Binary", "r", world()).formula == named  # and the gate looks at what it names
    assert access.access(doctor, "Device", "r", world()).formula == where(("patient", "Patient/P1"))


def test_a_patients_own_role_stays_in_the_own_compartment() -> None:
    """user/ scopes give a patient what the patient may see, which is the own record."""
    own = caller("user/*.cruds", "Patient", user="p", fhir_user="Patient/P1", patients=("P1",))
    assert access.access(own, "Patient", "r", world()).formula == where(("_id", "P1"))
    formula = access.access(own, "Appointment", "c", world()).formula
    assert visible(formula, actor="Patient/P1")
    assert not visible(formula, actor="Patient/P2")
    assert access.access(own, "Condition", "c", world()).none


def test_system_scopes_need_a_system_and_user_scopes_a_user() -> None:
    """A user's token carries no system rights, a backend's token no user rights."""
    assert access.access(caller("system/*.rs", "Admin", user="a"), "Patient", "r", world()).none
    assert access.access(caller("user/*.rs", "System"), "Patient", "r", world()).none
    assert not access.access(caller("system/*.rs", "System"), "Patient", "r", world()).none


def test_s11_contexts_in_one_token_are_united_each_within_the_role() -> None:
    """patient/ and user/ scopes of one token add up, each with its own limits."""
    mixed = nurse("patient/Observation.rs user/Condition.rs", patient="P1")
    observations = access.access(mixed, "Observation", "r", world()).formula
    assert not visible(observations, subject="Patient/P2")
    conditions = access.access(mixed, "Condition", "r", world()).formula
    assert visible(conditions, patient="Patient/P2")
    assert not visible(conditions, patient="Patient/P2", security=R)


def test_s09_granular_scopes_are_clauses() -> None:
    """A granular scope lets through what matches its clauses, and several of them add up."""
    some = nurse("user/Observation.rs?category=lab user/Observation.rs?category=vital&code=x")
    formula = access.access(some, "Observation", "r", world()).formula
    assert visible(formula, category="lab")
    assert visible(formula, category="vital", code="x y")
    assert not visible(formula, category="vital", code="y")
    assert not visible(formula, category="social")


def test_audit_events_are_written_by_the_server_alone() -> None:
    """U05: not even an administrator creates, changes or deletes an AuditEvent."""
    admin = caller("user/*.cruds", "Admin", user="a")
    assert [access.access(admin, "AuditEvent", verb, world()).none for verb in "cruds"] == [
        True,
        False,
        True,
        True,
        False,
    ]


def test_labels_above_the_clearance_are_invisible() -> None:
    """A restricted resource is not there for a nurse, and is for a doctor; sensitive labels need to be named."""
    hiv = access.SENSITIVITY_SYSTEMS[0] + "|HIV"
    formula = access.access(nurse(), "Condition", "r", world()).formula
    assert visible(formula, security=access.CONFIDENTIALITY_SYSTEMS[0] + "|N")
    assert not visible(formula, security=R)
    assert not visible(formula, security=hiv)
    doctor = caller("user/*.rs", "Doctor", user="d")
    assert visible(access.access(doctor, "Condition", "r", world()).formula, security=f"{R} {hiv}")


def test_sensitive_labels_are_those_of_hl7() -> None:
    """Every code of the value set but its headings, under every name of its code system."""
    url = "http://terminology.hl7.org/ValueSet/v3-InformationSensitivityPolicy"
    listed = terminology_world.codes(terminology_world.ask(terminology_world.library(), "ValueSet", "expand", url=url))
    assert sorted(access.SENSITIVE) == sorted(code for code in listed if not code.startswith("_"))
    formula = access.access(nurse(), "Condition", "r", world()).formula
    for system in ("http://terminology.hl7.org/CodeSystem/v3-ActCode", "urn:oid:2.16.840.1.113883.5.4", ""):
        assert not any(visible(formula, security=f"{system}|{code}") for code in ("HIV", "PREGNANT", "PRS"))


def test_u09_break_glass_lifts_labels_and_consents_until_it_ends() -> None:
    """An emergency session shows what labels and consents hide, only for roles that may, only until its end."""
    consent = consents_deny("P1")
    urgent = nurse(glass=NOW + timedelta(minutes=1))
    over = nurse(glass=NOW - timedelta(minutes=1))
    clerk = caller("user/*.rs", "Receptionist", user="c", glass=NOW + timedelta(minutes=1))
    assert visible(access.access(urgent, "Condition", "r", world(consent)).formula, patient="Patient/P1", security=R)
    assert not visible(access.access(over, "Condition", "r", world(consent)).formula, patient="Patient/P1")
    assert not visible(access.access(clerk, "Patient", "r", world()).formula, security=R)
    assert access.access(urgent, "Claim", "r", world()).none


def consents_deny(patient: str, **provision: Any) -> dict[str, Any]:
    return {
        "resourceType": "Consent",
        "status": "active",
        "scope": {"coding": [{"code": "patient-privacy"}]},
        "patient": {"reference": f"Patient/{patient}"},
        "provision": {"type": "deny", **provision},
    }


def test_a_denial_takes_the_patient_out_of_everyones_sight_but_their_own() -> None:
    """A consent of type deny hides the compartment; other patients stay, and the patient still sees it."""
    formula = access.access(nurse(), "Condition", "s", world(consents_deny("P1"))).formula
    assert not visible(formula, patient="Patient/P1")
    assert visible(formula, patient="Patient/P2")
    own = caller("user/*.rs", "Patient", user="p", patients=("P1",), actors=frozenset({"Patient/P1"}))
    assert visible(access.access(own, "Condition", "s", world(consents_deny("P1"))).formula, patient="Patient/P1")


@pytest.mark.parametrize(
    ("provision", "hidden"),
    [
        ({"actor": [{"reference": {"reference": "Practitioner/1"}}]}, True),
        ({"actor": [{"reference": {"reference": "Practitioner/9"}}]}, False),
        ({"period": {"end": "2026-04-30"}}, False),
        ({"period": {"end": "2026-05-01"}}, True),
        ({"period": {"start": "2026-05-01T14:30:00+02:00"}}, False),
        ({"class": [{"system": "http://hl7.org/fhir/resource-types", "code": "Observation"}]}, False),
        ({"class": [{"system": "http://hl7.org/fhir/resource-types", "code": "Condition"}]}, True),
        ({"class": [{"system": "http://example.org", "code": "letters"}]}, True),
        ({"purpose": [{"code": "HRESCH"}]}, False),
        ({"action": [{"coding": [{"code": "correct"}]}]}, False),
        ({"code": [{"coding": [{"code": "44054006"}]}]}, True),
        ({"code": [{"coding": [{"code": "other"}]}]}, False),
        ({"securityLabel": [{"system": "s", "code": "R"}]}, False),
        ({"data": [{"meaning": "instance", "reference": {"reference": "Condition/c1"}}]}, True),
        ({"provision": [{"type": "permit", "actor": [{"reference": {"reference": "Practitioner/1"}}]}]}, False),
        ({"provision": [{"type": "permit", "dataPeriod": {"start": "2020"}}]}, True),
        ({"type": "permit", "provision": [{"type": "deny", "code": [{"coding": [{"code": "44054006"}]}]}]}, True),
        ({"type": "permit", "provision": [{"type": "deny", "code": [{"coding": [{"code": "z"}]}]}]}, False),
        ({"type": "permit"}, False),
    ],
)
def test_consent_provisions(provision: dict[str, Any], hidden: bool) -> None:
    """Consent.provision by actor, period, class, code, label, data and nested exceptions."""
    formula = access.access(nurse(), "Condition", "r", world(consents_deny("P1", **provision))).formula
    assert visible(formula, patient="Patient/P1", code="44054006", id="c1") is not hidden


@pytest.mark.parametrize("change", [{"status": "rejected"}, {"scope": {"coding": [{"code": "research"}]}}])
def test_only_active_privacy_consents_count(change: dict[str, Any]) -> None:
    """A draft, a rejected consent and one for research hide nothing."""
    formula = access.access(nurse(), "Condition", "r", world(consents_deny("P1") | change)).formula
    assert visible(formula, patient="Patient/P1")


def test_an_opt_out_rule_denies_but_for_its_permits() -> None:
    """policyRule OPTOUT without a root type shares nothing but what a provision permits."""
    rule = consents_deny("P1", type=None, provision=[{"type": "permit", "code": [{"coding": [{"code": "ok"}]}]}])
    del rule["provision"]["type"]
    rule["policyRule"] = {"coding": [{"code": "OPTOUT"}]}
    formula = access.access(nurse(), "Condition", "r", world(rule)).formula
    assert visible(formula, patient="Patient/P1", code="ok")
    assert not visible(formula, patient="Patient/P1", code="no")


def test_u05_a_consent_hides_no_audit_trail() -> None:
    """Who watches over the record is no reader of it: a denial leaves the AuditEvents where they are."""
    auditor = caller("user/*.rs", "Auditor", user="a", actors=frozenset({"Practitioner/a"}))
    denial = consents_deny("P1", actor=[{"reference": {"reference": "Practitioner/a"}}])
    for verb in "rs":
        formula = access.access(auditor, "AuditEvent", verb, world(denial)).formula
        assert formula == access.access(auditor, "AuditEvent", verb, world()).formula
    assert access.unmarked(auditor, "AuditEvent", world(denial)) == access.unmarked(auditor, "AuditEvent", world())


def test_thousands_of_equal_denials_share_one_part() -> None:
    """A consent repeated for many patients costs one clause with many values, not many clauses."""
    many = [consents_deny(f"P{i}") for i in range(3000)]
    formula = access.access(nurse(), "Condition", "s", world(*many)).formula
    assert not visible(formula, patient="Patient/P2999")
    assert str(formula).count("Where(") < 5


def test_hidden_elements_come_from_the_rows_that_apply() -> None:
    """A role hides elements; a second role that shows all of them brings them back."""
    clerk = caller("user/*.rs", "Billing clerk", user="b")
    assert "Patient.photo" in access.access(clerk, "Patient", "r", world()).hidden
    both = caller("user/*.rs", "Billing clerk", "Doctor", user="b")
    assert access.access(both, "Patient", "r", world()).hidden == frozenset()


@pytest.mark.parametrize(
    "data",
    [
        {"name": "x", "rowz": []},
        {"name": "x", "rows": [{"types": ["*"], "verbs": "rx"}]},
        {"name": "x", "rows": [{"types": [], "verbs": "r"}]},
        {"name": "x", "rows": [{"types": ["Patient"], "verbs": "r", "were": []}]},
        {"name": "x", "rows": [{"types": ["Patient"], "verbs": "r", "hidden": ["Patient.telecon"]}]},
        {"name": "x", "rows": [{"types": ["Patient"], "verbs": "r", "hidden": ["patient.telecom"]}]},
        {"name": "x", "rows": [{"types": ["Patient"], "verbs": "r", "hidden": ["Patient.deceased"]}]},
        {"name": "x", "rows": [{"types": ["Patient"], "verbs": "r", "hidden": ["Patient"]}]},
        {"name": "x", "rows": [], "rights": ["root"]},
        {"name": "x", "rows": [], "clearance": "X"},
    ],
)
def test_a_misspelt_policy_is_refused(data: dict[str, Any]) -> None:
    """A policy with a name that does not exist is an error and never a wider policy."""
    with pytest.raises(FhirError):
        policy(data)


@pytest.mark.parametrize(
    ("reference", "foreign"),
    [
        ("Patient/P1", False),
        ("Patient/P2", True),
        ("Patient/P2/_history/3", True),
        ("http://server/fhir/Patient/P2", True),
        ("https://server/fhir/Patient/P1/_history/1", False),
        ("Patient?identifier=x|y", True),
        ("Patient/%502", True),
        ("Patient/P2/", True),
        ("Patient//P2", True),
        (" Patient/P2 ", True),
        ("patient/P2", True),
        ("urn:x:Patient/P2", True),
        ("Patient/P1/../P2", True),
        ("Patient/P2;x", True),
        ("http://server/PatientGroup/P2", False),
        ("Practitioner/P2", False),
        ("#patient", False),
    ],
)
def test_t11_a_patient_bound_writer_mentions_no_other_patient(reference: str, foreign: bool) -> None:
    """Relative, versioned, absolute, conditional and encoded references to another patient are found anywhere."""
    resource = {"resourceType": "Observation", "performer": [{"x": [{"reference": reference}]}]}
    assert (foreign_patient(resource, ["P1"]) is not None) is foreign


def test_t11_a_reference_by_identifier_alone_is_foreign() -> None:
    """A Patient reference without a literal one cannot be shown to be one's own."""
    subject = {"type": "Patient", "identifier": {"value": "P2"}}
    assert foreign_patient({"subject": subject}, ["P1"])
    assert not foreign_patient({"subject": subject | {"reference": "Patient/P1"}}, ["P1"])


LEAF = st.sampled_from([where(("a", "1")), where(("b", "1")), where(("a", "1"), ("b", "1")), EVERYTHING, NOTHING])
FORMULA: st.SearchStrategy[Formula] = st.recursive(
    LEAF,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(every), st.lists(inner, max_size=3).map(either), inner.map(negate)
    ),
    max_leaves=8,
)
FACTS = st.fixed_dictionaries({"a": st.sampled_from(["0", "1"]), "b": st.sampled_from(["0", "1"])})


@given(st.lists(FORMULA, max_size=3), FACTS)
def test_constructors_keep_the_meaning(parts: list[Formula], facts: dict[str, str]) -> None:
    """Flattening and folding change no truth value."""
    assert visible(every(parts), **facts) == all(visible(part, **facts) for part in parts)
    assert visible(either(parts), **facts) == any(visible(part, **facts) for part in parts)
    assert all(visible(negate(part), **facts) != visible(part, **facts) for part in parts)


ROW = st.builds(
    Row,
    st.sets(st.sampled_from(["*", "Observation", "Condition"]), min_size=1).map(tuple),
    st.sets(st.sampled_from("cruds"), min_size=1).map("".join),
    st.sampled_from([(), (("code", "x"),)]),
    st.booleans(),
)
POLICIES = st.lists(st.builds(lambda rows: Policy("p", tuple(rows), "N"), st.lists(ROW, max_size=3)), max_size=2)
SCOPES = st.lists(
    st.builds(
        Scope,
        st.sampled_from(["patient", "user", "system"]),
        st.sampled_from(["*", "Observation", "Condition"]),
        st.sampled_from(["rs", "cruds", "c"]),
        st.sampled_from([(), (("code", "y"),)]),
    ),
    max_size=3,
)
RESOURCE = st.fixed_dictionaries(
    {"code": st.sampled_from(["x", "y", "x y"]), "subject": st.sampled_from(["Patient/P1", "Patient/P2"])}
).map(lambda each: each | {"patient": each["subject"]})


@given(POLICIES, SCOPES, SCOPES, RESOURCE, st.sampled_from("cruds"), st.sampled_from(["Observation", "Condition"]))
def test_more_scopes_never_show_less_and_each_rule_narrows(
    held: list[Policy], some: list[Scope], more: list[Scope], resource: dict[str, str], verb: str, kind: str
) -> None:
    """Access is monotone in the scopes, and is never more than the policies alone allow."""

    def sees(granted: list[Scope]) -> bool:
        who = Principal("t", "c", tuple(granted), tuple(held), user="u", patients=("P1",), patient="P1")
        return visible(access.access(who, kind, verb, world()).formula, **resource)

    assert not sees(some) or sees([*some, *more])
    assert not sees(some) or sees([Scope("user", "*", "cruds")])


@given(POLICIES, SCOPES, RESOURCE)
def test_a_consent_never_shows_more(held: list[Policy], granted: list[Scope], resource: dict[str, str]) -> None:
    """Whatever a consent says, it takes away and never adds."""
    who = Principal("t", "c", tuple(granted), tuple(held), user="u", patients=("P1",), patient="P1")
    with_consent = access.access(who, "Observation", "r", world(consents_deny("P1"))).formula
    without = access.access(who, "Observation", "r", world()).formula
    assert not visible(with_consent, **resource) or visible(without, **resource)
    assert not visible(with_consent, **resource) or resource["subject"] != "Patient/P1"


def test_formulas_of_no_parts() -> None:
    """The empty conjunction is true and the empty disjunction false, and a leaf of no pairs is no condition."""
    assert formulas.every([]) == EVERYTHING
    assert formulas.either([]) == NOTHING
    assert where() == EVERYTHING
    assert patient_formula("Observation", [], codes) == NOTHING
