"""The compiled type model says what the official definitions say."""

from __future__ import annotations

import pytest

from profiles import model


def test_all_concrete_resource_types_are_there() -> None:
    """R4 has 146 concrete resource types and 20 primitive types."""
    assert len(model.RESOURCE_TYPES) == 146
    assert len(model.PRIMITIVES) == 20
    assert "DomainResource" not in model.RESOURCE_TYPES


def test_an_element_carries_cardinality_types_and_binding() -> None:
    """Patient.gender is 0..1 code, bound to administrative-gender (required)."""
    gender = model.element("Patient", "gender")
    assert gender is not None
    assert (gender.min, gender.max, gender.types) == (0, 1, ("code",))
    assert gender.binding is not None
    assert gender.binding.strength == "required"
    assert gender.binding.value_set == "http://hl7.org/fhir/ValueSet/administrative-gender|4.0.1"


def test_choices_are_one_element_and_many_fields() -> None:
    """deceased[x] is found as an element by its name and as JSON by the name of each type."""
    deceased = model.element("Patient", "deceased")
    assert deceased is not None
    assert deceased.is_choice
    assert {k for k in model.fields("Patient") if k.startswith("deceased")} == {"deceasedBoolean", "deceasedDateTime"}


@pytest.mark.parametrize(
    ("type_name", "name", "content"),
    [
        ("Patient", "contact", "Patient.contact"),
        ("Patient", "name", "HumanName"),
        ("Questionnaire.item", "item", "Questionnaire.item"),
        ("Timing", "repeat", "Timing.repeat"),
        ("Observation.component", "referenceRange", "Observation.referenceRange"),
        ("Bundle.entry", "resource", "Resource"),
        ("Patient", "id", "id"),
        ("HumanName", "id", "string"),
        ("Extension", "url", "uri"),
        ("Observation", "valueQuantity", "Quantity"),
        ("Age", "value", "decimal"),
    ],
)
def test_a_field_names_the_type_of_its_content(type_name: str, name: str, content: str) -> None:
    """Inner elements and content references lead to the type whose elements they have."""
    found = model.field(type_name, name)
    assert found is not None
    assert found.type == content


def test_types_descend() -> None:
    """A code is a string, a Patient a Resource, an inner element a BackboneElement."""
    assert model.is_a("code", "string")
    assert model.is_a("Patient", "Resource")
    assert model.base_of("Patient.contact") == "BackboneElement"
    assert model.is_a("Age", "Quantity")
    assert not model.is_a("Bundle", "DomainResource")


def test_inherited_elements_come_first() -> None:
    """XML is written in this order."""
    assert list(model.elements("Patient"))[:10] == [
        *("id", "meta", "implicitRules", "language", "text", "contained", "extension", "modifierExtension"),
        *("identifier", "active"),
    ]


def test_every_content_type_is_known() -> None:
    """No field leads to a type the model does not hold."""
    unknown = {f.type for t in model.TYPES for f in model.fields(t).values() if f.type not in model.TYPES}
    assert unknown == set()


def test_every_invariant_is_known() -> None:
    """The keys on types and elements have their rule."""
    keys = {k for t in model.TYPES.values() for k in (*t.rules, *(r for e in t.elements for r in e.rules))}
    assert keys <= set(model.INVARIANTS)
    assert model.INVARIANTS["dom-6"].best_practice
    assert model.INVARIANTS["Task:inv-1"] != model.INVARIANTS["TestReport:inv-1"]


def test_search_parameters_and_compartments() -> None:
    """1,375 parameters; the patient compartment reaches Observation by subject and performer."""
    assert len(model.SEARCH_PARAMETERS) == 1375
    assert model.COMPARTMENTS["Patient"]["Observation"] == ["subject", "performer"]
    assert sorted(model.COMPARTMENTS) == ["Device", "Encounter", "Patient", "Practitioner", "RelatedPerson"]


@pytest.mark.parametrize(
    ("kind", "count"),
    [
        ("StructureDefinition", 655),
        ("SearchParameter", 1375),
        ("OperationDefinition", 46),
        ("CompartmentDefinition", 5),
        ("ValueSet", 1316),
        ("CodeSystem", 1062),
        ("ConceptMap", 80),
    ],
)
def test_originals_can_be_read_back(kind: str, count: int) -> None:
    """Every official definition is there by id and by canonical url, with or without a version."""
    urls = model.definition_urls(kind)
    first = next(iter(urls))
    by_url, by_id = model.definition(kind, first + "|4.0.1"), model.definition(kind, urls[first])
    assert by_url == by_id
    assert by_url is not None
    assert (by_url["resourceType"], by_url["url"]) == (kind, first)
    assert sum(1 for _ in model.definitions(kind)) == count


def test_an_unknown_definition_is_none() -> None:
    """Nothing is made up."""
    assert model.definition("ValueSet", "http://example.org/none") is None
    assert model.definition("Patient", "x") is None
    assert model.fields("Nonsense") == {}


def test_required_codes_and_expansions() -> None:
    """Required bindings have their codes; SNOMED CT is nowhere."""
    gender = model.required_codes()["http://hl7.org/fhir/ValueSet/administrative-gender"]
    assert gender == {"http://hl7.org/fhir/administrative-gender": {"male", "female", "other", "unknown"}}
    assert all("http://snomed.info/sct" not in systems for _, systems in model.expansions().values())
