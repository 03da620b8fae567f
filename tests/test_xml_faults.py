"""XML that is written: every fault is named, as in JSON."""

from __future__ import annotations

import pytest

from fhir_server.store import Store
from tests.shell import ask, content, context_on, text_of

pytestmark = pytest.mark.anyio

XML = "application/fhir+xml"
FAULTY = b"""<Patient xmlns="http://hl7.org/fhir">
<bork value="x"/>
<active value="true" foo="1"/>
<gender value="zz"/>
</Patient>"""


@pytest.mark.parametrize(("method", "url"), [("POST", "Patient"), ("PUT", "Patient/p"), ("PUT", "Patient?_id=p")])
async def test_every_fault_of_an_xml_text_is_named(store: Store, method: str, url: str) -> None:
    """What does not belong in the text and what does not fit the definitions, each with its place."""
    context = context_on(store)
    answer = await ask(context, method, url, FAULTY, content_type=XML)
    told = {issue["expression"][0]: issue["location"] for issue in content(answer)["issue"]}
    assert answer.status == 400
    assert told == {
        "Patient.bork": ["line 2, column 1"],
        "Patient.active": ["line 3, column 1"],
        "Patient.gender": ["line 4, column 1"],
    }
    assert content(await ask(context, "GET", "Patient"))["total"] == 0


async def test_xml_that_is_none_has_one_fault(store: Store) -> None:
    """There is nothing to look at behind the place where it ends."""
    answer = await ask(context_on(store), "POST", "Patient", FAULTY[:-4], content_type=XML)
    assert (answer.status, len(content(answer)["issue"])) == (400, 1)
    assert text_of(answer).startswith("The XML is not well-formed")


@pytest.mark.parametrize("kind", ["batch", "transaction"])
async def test_every_fault_of_an_xml_bundle_is_named(store: Store, kind: str) -> None:
    """A text with faults is not carried out, not even what could be read of it."""
    patient = FAULTY.decode().replace(' xmlns="http://hl7.org/fhir"', "")
    request = '<request><method value="POST"/><url value="Patient"/></request>'
    sent = (
        f'<Bundle xmlns="http://hl7.org/fhir"><foo/><type value="{kind}"/>'
        f"<entry><resource>{patient}</resource>{request}</entry></Bundle>"
    )
    context = context_on(store)
    answer = await ask(context, "POST", "", sent.encode(), content_type=XML)
    places = [issue["expression"][0] for issue in content(answer)["issue"]]
    inside = [f"Bundle.entry[0].resource.{name}" for name in ("bork", "active", "gender")]
    assert (answer.status, places) == (400, ["Bundle.foo", *inside])
    assert content(await ask(context, "GET", "Patient"))["total"] == 0
