"""SMART and FHIR clients that nobody here wrote, each doing what its own documentation shows, on a running server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser import Site
from tests.browser import chromium as chromium
from tests.demo_server import Demo
from tests.form_filler import Person
from tests.test_pages import log_in, window

pytestmark = pytest.mark.xdist_group("demo")
CLIENTS = Path(__file__).parent / "clients"
HOME = "https://app.example/back"


def package(name: str) -> Path:
    """The folder of an installed npm package, or a skip that says how to get it."""
    folder = Path(os.environ.get("FHIR_NODE_MODULES", CLIENTS / "node_modules")) / name
    if not folder.is_dir():
        pytest.skip(f"npm {name} is not installed: npm install --no-package-lock in tests/clients")
    return folder


@pytest.fixture(scope="module")
def person(demo: Demo) -> Iterator[Person]:
    """The demo's doctor, logging in without a browser's window."""
    made = Person("doctor", demo.password)
    yield made
    made.close()


# npm fhirclient, in Chromium

PAGE = '<!doctype html><title>App</title><script src="fhir-client.js"></script><body><script src="{}"></script></body>'


@pytest.fixture(scope="module")
def fhirclient_site(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """An app on npm fhirclient: a page for the standalone launch, to which an EHR launch comes back too."""
    build = package("fhirclient") / "build/fhir-client.min.js"
    folder = tmp_path_factory.mktemp("app")
    shutil.copy(build, folder / "fhir-client.js")
    for name, script in (("index.html", "fhirclient-app.js"), ("launch.html", "fhirclient-launch.js")):
        (folder / name).write_text(PAGE.format(script))
        shutil.copy(CLIENTS / script, folder / script)
    site = Site(folder)
    places = ("--redirect", f"{site.url}/", "--launch", f"{site.url}/launch.html")
    demo.command("client", "add", "npm-fhirclient", "--name", "Fhirclient app", *places)
    yield site
    site.close()


def shown(page: Any) -> dict[str, Any]:
    page.wait_for_selector("pre")
    return dict(json.loads(page.text_content("pre")))


def test_npm_fhirclient_standalone_launch(chromium: Any, demo: Demo, fhirclient_site: Site) -> None:
    """Discovery, PKCE, picker, token, reads, paging, fhirUser and a refresh by npm fhirclient."""
    with window(chromium) as page:
        page.goto(f"{fhirclient_site.url}/?iss={demo.base}")
        log_in(page, "doctor", demo.password)
        chosen = page.get_attribute(".choices button >> nth=1", "value")
        page.click(".choices button >> nth=1")
        page.click("button[value=allow]")
        found = shown(page)
        assert found.pop("found", 0) > 5, found
        assert found == {"patient": chosen, "user": "Practitioner", "fresh": True, "again": chosen}


def test_npm_fhirclient_ehr_launch(chromium: Any, demo: Demo, fhirclient_site: Site) -> None:
    """The page of apps opens launch.html with iss and launch; the app has the patient that was chosen there."""
    with window(chromium) as page:
        page.goto(f"{demo.auth}/apps")
        log_in(page, "doctor", demo.password)
        page.click(".choices a:has-text('Fhirclient app')")
        page.wait_for_load_state()
        chosen = page.get_attribute(".choices a >> nth=2", "href").rpartition("patient=")[2]
        page.click(".choices a >> nth=2")
        page.click("text=Open without a visit")
        page.click("button[value=allow]")
        found = shown(page)
        assert (found.get("patient"), found.get("fresh")) == (chosen, True), found


# PyPI fhirclient


def test_pypi_fhirclient(demo: Demo, person: Person) -> None:
    """The SMART Python client: oauth-uris from the CapabilityStatement, login, callback, models, search."""
    client = pytest.importorskip("fhirclient.client", reason="the package fhirclient is not installed")
    from fhirclient.models.observation import Observation

    demo.command("client", "add", "pypi-fhirclient", "--redirect", HOME)
    settings = {"app_id": "pypi-fhirclient", "api_base": demo.base, "redirect_uri": HOME}
    smart = client.FHIRClient(settings=settings | {"scope": "openid fhirUser launch/patient patient/*.rs"})
    assert not smart.prepare()  # it has read the CapabilityStatement, and is not logged in
    smart.handle_callback(person.allow(smart.authorize_url, HOME))
    assert smart.ready
    assert smart.patient.as_json()["resourceType"] == "Patient"
    found = list(Observation.where({"patient": smart.patient_id}).perform_resources_iter(smart.server))
    assert {row.subject.reference for row in found} == {f"Patient/{smart.patient_id}"}


# PyPI fhirpy


def test_pypi_fhirpy(demo: Demo) -> None:
    """fhirpy with a bearer token: create, search, update, patch, delete, count, fetch all pages."""
    fhirpy = pytest.importorskip("fhirpy", reason="the package fhirpy is not installed")
    token = demo.token("user/*.cruds", "admin")
    client = fhirpy.SyncFHIRClient(demo.base, authorization=f"Bearer {token}")
    patient = client.resource("Patient", name=[{"family": "Fhirpy"}], gender="female")
    patient.save()
    assert client.resources("Patient").search(name="fhirpy").first().id == patient.id
    patient["gender"] = "other"
    patient.save()
    patient.patch(birthDate="1990-01-01")
    patient.refresh()
    assert (patient["gender"], patient["birthDate"]) == ("other", "1990-01-01")
    observations = client.resources("Observation")
    assert len(observations.limit(50).fetch_all()) == observations.count()
    patient.delete()
    assert client.resources("Patient").search(name="fhirpy").first() is None
    with pytest.raises(fhirpy.base.exceptions.AuthorizationError):
        fhirpy.SyncFHIRClient(demo.base).resources("Patient").fetch()


# npm fhir-kit-client


def test_npm_fhir_kit_client(demo: Demo, tmp_path: Path) -> None:
    """fhir-kit-client: SMART metadata, create, read, search, next page, update, history, delete."""
    folder = package("fhir-kit-client").parent
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    script = shutil.copy(CLIENTS / "fhir-kit-client.mjs", tmp_path)
    (tmp_path / "node_modules").symlink_to(folder)
    command = [node, script, demo.base, demo.token("user/*.cruds", "admin")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    expected = {"token": f"{demo.auth}/token", "page": 5, "next": 5, "history": 2, "gone": 410}
    assert found == expected
