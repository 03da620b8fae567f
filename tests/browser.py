"""A real Chromium for tests of the pages, and what is checked on every page without any library for it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")

# Faults of the page that is shown: names, labels, contrast, sizes.
AUDIT = (Path(__file__).parent / "data/audit.js").read_text()


def binary() -> str | None:
    """Where Chromium is: FHIR_CHROMIUM, or on the path."""
    return os.environ.get("FHIR_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A headless Chromium, or a skip that says what is missing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
    path = binary()
    if path is None:
        pytest.skip("no Chromium: install the package chromium, or name one in FHIR_CHROMIUM")
    with playwright.sync_playwright() as driver:
        # Tests run as root in containers, where Chromium's own sandbox cannot; the pages are ours.
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield browser
        browser.close()


class Site:
    """A folder served on a free port of loopback, as an app developer does with `python3 -m http.server`."""

    def __init__(self, folder: Path) -> None:
        class Handler(SimpleHTTPRequestHandler):
            def __init__(self, *args: Any, **options: Any) -> None:
                super().__init__(*args, directory=str(folder), **options)

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing is printed in a test."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = f"http://localhost:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
