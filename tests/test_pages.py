"""The pages in a real Chromium: login, second step, passkeys, picker, consent, account, for every reader."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyotp
import pytest

from tests.browser import AUDIT, Site
from tests.browser import chromium as chromium
from tests.demo_server import Demo

pytestmark = pytest.mark.xdist_group("demo")
APP = Path(__file__).parent.parent / "examples/smart-app"
SECRET = "correct horse battery"
LOOKS = [("light", 1000, 760), ("dark", 1000, 760), ("light", 320, 640), ("dark", 390, 780)]


@pytest.fixture(scope="module")
def site(demo: Demo) -> Iterator[Site]:
    """The example app, served on a free port and registered as the client `site`."""
    made = Site(APP)
    page, launch = f"{made.url}/", f"{made.url}/launch.html?client_id=site"
    demo.command("client", "add", "site", "--name", "Demo app", "--redirect", page, "--launch", launch)
    yield made
    made.close()


@contextmanager
def window(chromium: Any, look: tuple[str, int, int] = LOOKS[0]) -> Iterator[Any]:
    """A page of a new browser without cookies; nothing may be logged as an error, nothing may come from elsewhere."""
    scheme, width, height = look
    context = chromium.new_context(color_scheme=scheme, viewport={"width": width, "height": height})
    context.set_default_timeout(30_000)
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda line: said.append(line.text) if line.type == "error" else None)
    page.on("request", lambda request: said.append(request.url) if "localhost" not in request.url else None)
    yield page
    context.close()
    expected = ("Failed to load resource", "data:image/svg+xml")
    assert [line for line in said if not line.startswith(expected)] == []


def person(demo: Demo, name: str, role: str, who: str) -> str:
    """A user of their own for a test that changes the account."""
    demo.command("user", "add", name, "--role", role, "--fhir-user", who, "--password-stdin", stdin=SECRET)
    return name


def log_in(page: Any, name: str, password: str) -> None:
    page.fill("#username", name)
    page.fill("#password", password)
    page.click("button:text-is('Log in')")
    page.wait_for_load_state()


def start(page: Any, demo: Demo, site: Site) -> None:
    """Press the button of the app."""
    page.goto(f"{site.url}/?client_id=site")
    page.fill("#iss", demo.base)
    page.click("text=Log in")
    page.wait_for_url(f"{demo.auth}/**")


def test_a_standalone_launch_by_keyboard_alone(chromium: Any, demo: Demo, site: Site) -> None:
    """A doctor logs in, searches and chooses a patient, takes a scope away and is back in the app, without a mouse."""
    with window(chromium) as page:
        start(page, demo, site)
        press = page.keyboard.press
        page.keyboard.type("doctor")  # the first field has the focus
        press("Tab")
        page.keyboard.type(demo.password)
        press("Enter")
        page.wait_for_selector("h1:text('Choose a patient')")
        name = page.text_content(".choices strong >> nth=2")
        page.keyboard.type(name)
        press("Enter")
        page.wait_for_url(re.compile("q="))
        assert page.text_content(".choices strong >> nth=0") == name
        reach(page, ".choices button")
        press("Enter")
        page.wait_for_selector("h1:text('Allow Demo app?')")
        assert page.text_content(".chosen strong") == name
        reach(page, "input[value='patient/Observation.rs']")
        press("Space")
        reach(page, "button[value=allow]")
        press("Enter")
        page.wait_for_selector("#status:has-text('Logged in')")
        assert page.text_content("#who") == name
        assert "patient/Patient.r" in page.text_content("#status")
        assert "Observation" not in page.text_content("#status")
        assert page.locator("#observations li").count() == 0


def reach(page: Any, selector: str) -> None:
    """Press Tab until the element has the focus, and see that it shows."""
    for _ in range(60):
        if page.evaluate("s => document.activeElement.matches(s)", selector):
            assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"{selector} cannot be reached with the Tab key")


def test_an_ehr_launch_from_the_page_of_apps(chromium: Any, demo: Demo, site: Site) -> None:
    """A nurse opens the app for a patient: nothing more to type, and the app shows the patient's results."""
    with window(chromium) as page:
        page.goto(f"{demo.auth}/apps")
        log_in(page, "nurse", demo.password)
        page.click(f".choices a:has-text('{site.url}')")
        page.wait_for_load_state()
        name = page.text_content(".choices strong >> nth=1")
        page.click(".choices a >> nth=1")
        page.click("text=Open without a visit")
        page.wait_for_selector("h1:text('Allow Demo app?')")
        page.click("button[value=allow]")
        page.wait_for_selector("#status:has-text('Logged in')")
        assert page.text_content("#who") == name
        assert page.locator("#observations li").count() > 0


def test_a_refusal_and_a_cancel_lead_back_to_the_app(chromium: Any, demo: Demo, site: Site) -> None:
    with window(chromium) as page:
        start(page, demo, site)
        page.click("text=Cancel and go back to the app")
        page.wait_for_selector("#status:has-text('access_denied')")
        start(page, demo, site)
        log_in(page, "patient", demo.password)
        page.click("text=Do not allow")
        page.wait_for_selector("#status:has-text('access_denied')")


def test_an_authenticator_app(chromium: Any, demo: Demo) -> None:
    """Set up by QR code, asked for at the next login; a backup code works once."""
    name = person(demo, "tina", "Nurse", "Practitioner/t1")
    with window(chromium) as page:
        page.goto(f"{demo.auth}/account")
        log_in(page, name, SECRET)
        page.click("text=Set up an authenticator app")
        page.wait_for_selector("img.qr")
        assert page.evaluate("document.querySelector('img.qr').naturalWidth") > 50
        totp = pyotp.TOTP(page.text_content("#totp ~ div code"))
        page.fill("#code", "000000")
        page.click("text=Confirm")
        assert "The code is wrong" in page.text_content("[role=alert]")
        page.click("text=Set up an authenticator app")
        totp = pyotp.TOTP(page.text_content("#totp ~ div code"))
        page.fill("#code", totp.now())
        page.click("text=Confirm")
        codes = page.locator(".codes code").all_text_contents()
        assert len(set(codes)) == 10
        for code, fine in ((codes[0], True), (codes[0], False), (totp.at(time.time() + 30), True)):
            page.goto(f"{demo.auth}/account")
            if page.locator("text=Log out").count():
                page.click("text=Log out")
                page.goto(f"{demo.auth}/account")
            log_in(page, name, SECRET)
            page.wait_for_selector("h1:text('Second step')")
            page.fill("#code", code)
            page.click("text=Continue")
            page.wait_for_selector("h1:text('Your account')" if fine else "[role=alert]")
        page.fill("#stop", SECRET)
        page.click("text=Stop using it")
        page.wait_for_selector("text=Set up an authenticator app")


def test_a_passkey(chromium: Any, demo: Demo, site: Site) -> None:
    """Added on the account page, it logs in alone, in the middle of a launch; once removed it does not."""
    name = person(demo, "petra", "Patient", "Patient/p00001")
    with window(chromium) as page:
        devices = page.context.new_cdp_session(page)
        devices.send("WebAuthn.enable")
        options = {"protocol": "ctap2", "transport": "internal", "hasResidentKey": True, "hasUserVerification": True}
        options |= {"isUserVerified": True, "automaticPresenceSimulation": True}
        devices.send("WebAuthn.addVirtualAuthenticator", {"options": options})
        page.goto(f"{demo.auth}/account")
        log_in(page, name, SECRET)
        page.fill("#passkey-name", "Petra's phone")
        page.click("text=Add a passkey")
        page.wait_for_selector('.item:has-text("Petra\'s phone")')
        page.click("text=Log out")
        start(page, demo, site)
        page.click("text=Log in with a passkey")
        page.wait_for_selector("h1:text('Allow Demo app?')")
        page.click("button[value=allow]")
        page.wait_for_selector("#status:has-text('Logged in')")
        page.goto(f"{demo.auth}/account")
        page.click('.item:has-text("Petra\'s phone") button')
        page.wait_for_function('!document.body.textContent.includes("Petra\'s phone")')
        page.click("text=Log out")
        page.goto(f"{demo.auth}/account")
        page.click("text=Log in with a passkey")
        page.wait_for_selector("#passkey .fault:not([hidden])")
        assert "not known here" in page.text_content("#passkey .fault")


def test_the_account_page_takes_access_away(chromium: Any, demo: Demo, site: Site) -> None:
    """Apps, sessions and the password: what the page says is gone is gone."""
    name = person(demo, "carla", "Patient", "Patient/p00002")
    with window(chromium) as page, window(chromium) as other:
        start(page, demo, site)
        log_in(page, name, SECRET)
        page.click("button[value=allow]")
        page.wait_for_selector("#status:has-text('Logged in')")
        other.goto(f"{demo.auth}/account")
        log_in(other, name, SECRET)
        page.goto(f"{demo.auth}/account")
        assert page.locator("section:has(#sessions) .item").count() == 2
        page.click("section:has(#sessions) .item:not(:has-text('This browser')) button")
        page.wait_for_selector("section:has(#sessions) .item >> nth=1", state="detached")
        other.goto(f"{demo.auth}/account")
        assert other.text_content("h1") == "Log in"
        page.click("text=Take access away")
        page.wait_for_selector("text=No app has access.")
        page.fill("#old", SECRET)
        page.fill("#new", "another horse battery")
        page.click("text=Change password")
        page.wait_for_selector("h1:text('Log in')")
        log_in(page, name, SECRET)
        assert "wrong" in page.text_content("[role=alert]")
        log_in(page, name, "another horse battery")
        assert page.text_content("h1") == "Your account"


def test_a_link_to_a_new_password(chromium: Any, demo: Demo) -> None:
    name = person(demo, "rita", "Billing clerk", "Practitioner/r1")
    link = demo.command("user", "reset", name)
    with window(chromium) as page:
        for said in ("Done", "This does not work"):
            page.goto(link)
            page.fill("#new", "a new horse battery")
            page.click("text=Set password")
            page.wait_for_selector(f"h1:text('{said}')")
        page.goto(f"{demo.auth}/account")
        log_in(page, name, "a new horse battery")
        assert page.text_content("h1") == "Your account"


@pytest.mark.parametrize("look", LOOKS, ids=lambda look: f"{look[0]}-{look[1]}")
def test_every_page_serves_every_reader(chromium: Any, demo: Demo, site: Site, look: tuple[str, int, int]) -> None:
    """Names, labels, contrast, touch sizes and no sideways scrolling, light and dark, wide and at 320 pixels."""
    faults: dict[str, list[str]] = {}
    with window(chromium, look) as page:

        def audit(name: str) -> None:
            faults[name] = page.evaluate(AUDIT)

        start(page, demo, site)
        audit("login")
        log_in(page, "lab", "wrong wrong wrong")
        audit("login, wrong")
        log_in(page, "doctor", demo.password)
        audit("patient")
        page.click(".choices button >> nth=0")
        page.wait_for_selector("h1:text('Allow Demo app?')")
        page.click("summary")
        audit("consent")
        page.goto(f"{demo.auth}/apps")
        audit("apps")
        page.click(".choices a >> nth=0")
        page.wait_for_load_state()
        audit("open")
        page.goto(f"{demo.auth}/account")
        audit("account")
        page.click("text=Set up an authenticator app")
        page.wait_for_selector("img.qr")
        audit("authenticator")
        page.goto(f"{demo.auth}/reset?token=x")
        audit("reset")
        page.goto(f"{demo.auth}/flow?flow=gone")
        audit("message")
    assert {name: found for name, found in faults.items() if found} == {}


def test_the_pages_come_from_this_server_alone(chromium: Any, demo: Demo) -> None:
    """Nothing inline runs, no frame holds the page, nothing is kept (docs/security.md O27)."""
    with window(chromium) as page:
        headers = page.goto(f"{demo.auth}/account").headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
        assert re.search(r"unsafe|\*", policy) is None
        assert headers["x-frame-options"] == "DENY"
        assert headers["cache-control"] == "no-store"
        [cookie] = page.context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Lax")
    script = "const s = document.createElement('script'); s.text = 'window.ran = 1'; document.body.append(s);"
    with pytest.raises(AssertionError, match="Content Security Policy"), window(chromium) as strange:
        strange.goto(f"{demo.auth}/account")
        strange.evaluate(f"() => {{ {script} }}")
        assert strange.evaluate("() => window.ran ?? 'nothing'") == "nothing"
        strange.wait_for_timeout(100)
