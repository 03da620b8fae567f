"""The pages: Jinja2 templates with escaping on, one style sheet and one script of our own."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import segno
from jinja2 import Environment, PackageLoader, StrictUndefined

# What people call the types that a picker shows.
WORDS = {"patient": "patient", "encounter": "visit"}
ASSETS = {"style.css": "text/css; charset=utf-8", "passkey.js": "text/javascript; charset=utf-8"}


@cache
def _environment() -> Environment:
    made = Environment(loader=PackageLoader("smart_auth", "pages"), autoescape=True, undefined=StrictUndefined)
    made.globals["words"] = WORDS
    return made


def page(template: str, **values: Any) -> str:
    """A page of `smart_auth/pages` with the values filled in."""
    return _environment().get_template(f"{template}.html").render(**values)


@cache
def asset(name: str) -> bytes:
    """The style sheet or the script."""
    return files("smart_auth").joinpath("pages", name).read_bytes()


def qr_code(text: str) -> str:
    """The text as a QR code: an SVG data address for an img element."""
    return str(segno.make(text, error="m").svg_data_uri(scale=4, border=2, dark="#000", light="#fff"))
