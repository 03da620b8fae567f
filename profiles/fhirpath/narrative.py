"""The rules for narrative XHTML (http://hl7.org/fhir/R4/narrative.html, rules txt-1 and txt-2)."""

from __future__ import annotations

import re
from functools import lru_cache

import re2
from lxml import etree

from profiles.fhirpath.schema import words

_XHTML = "{http://www.w3.org/1999/xhtml}"
_ELEMENTS = words(
    "a abbr acronym b big blockquote br caption cite code col colgroup dd dfn div dl dt em h1 h2 h3 "
    "h4 h5 h6 hr i img li ol p pre q samp small span strong sub sup table tbody td tfoot th thead tr "
    "tt ul var"
)
_COMMON = words("title style class id lang dir accesskey tabindex") | {
    "{http://www.w3.org/XML/1998/namespace}lang",
    "{http://www.w3.org/XML/1998/namespace}base",
    "{http://www.w3.org/XML/1998/namespace}space",
}
_ATTRIBUTES: dict[str, frozenset[str]] = {
    "a": words("href name rel charset type hreflang rev shape coords target"),
    "img": words("src alt width height longdesc usemap ismap border align hspace vspace"),
    "q": frozenset(("cite",)),
    "blockquote": frozenset(("cite",)),
    **dict.fromkeys(
        ("table", "thead", "tbody", "tfoot", "tr", "td", "th", "col", "colgroup"),
        words(
            "summary width border frame rules cellspacing cellpadding align valign char charoff span abbr "
            "axis headers scope rowspan colspan bgcolor height nowrap"
        ),
    ),
    **dict.fromkeys(("ol", "ul", "li"), frozenset(["type", "start", "value", "compact"])),
    **dict.fromkeys(("p", "div", "h1", "h2", "h3", "h4", "h5", "h6", "caption", "hr"), frozenset(("align",))),
    "br": frozenset(("clear",)),
    "pre": frozenset(("width",)),
}
# Pictures inside the text or beside it are what HL7's publisher draws the lines of its trees with.
_STYLE = re.compile(
    r"expression|url\s*\((?!\s*['\"]?(?:data:\s*image/(?:png|gif|jpeg);base64,|[\w-]+\.(?:png|gif|jpg)['\"]?\s*\)))"
    r"|javascript|behavior|-moz-binding|@import|\\",
    re.IGNORECASE,
)
_SCHEMES = ("javascript:", "vbscript:", "data:text/html")


def _plain() -> str:
    """The pattern of most narratives: allowed elements with allowed attributes, written as printers write them."""
    words_of = {name: sorted(k for k in _ATTRIBUTES.get(name, ()) if k not in _LINKS) for name in sorted(_ELEMENTS)}
    common = sorted(k for k in _COMMON if "{" not in k)
    link = "|".join(_LINKS)
    rows = []
    for name, own in words_of.items():
        links = rf"|(?:{link})=\"{_NEAR}\"" if set(_LINKS) & _ATTRIBUTES.get(name, frozenset()) else ""
        rows.append(rf"{name}(?:{_BLANK}+(?:(?:{'|'.join([*common, *own])})=\"{_ANY}\"{links}))*")
    start = rf"<div(?:{_BLANK}+(?:xmlns=\"{_XHTML[1:-1]}\"|(?:{'|'.join(common)})=\"{_ANY}\"))*>"
    return (
        rf"{start}(?:[^<&]|&(?:[a-z]+|#[0-9]+);|<!--(?:[^-]|-[^-])*-->|<(?:{'|'.join(rows)}){_BLANK}*/?>|</[a-z0-9]+>)*"
    )


_LINKS = ("href", "src", "cite", "longdesc")
_BLANK = r"[ \t\r\n]"
_ANY = '[^"<]*'
_NEAR = '(?:(?:https?:|ftp:|mailto:|data: ?image/|#)(?:[^"<&]|&amp;)*|(?:[^"<&:]|&amp;)*)'
_PLAIN = re2.compile(_plain())
_STYLES = re.compile('style=(?="([^"]*)")')  # each, also those that begin inside another value


def is_plain(text: str) -> bool:
    """Whether only its nesting, its namespace or its emptiness can be wrong: 20 ns an element instead of 10 µs."""
    return _PLAIN.fullmatch(text) is not None and not any(
        "&" in style or _STYLE.search(style) for style in set(_STYLES.findall(text))
    )


@lru_cache(maxsize=512)
def narrative_faults(text: str) -> tuple[str, ...]:
    """What is wrong with the text of a `div`, in words; empty when nothing is."""
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        return ("The narrative must not have a DOCTYPE",)
    parser = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=False)
    try:
        root = etree.fromstring(text.encode(), parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        return (f"The narrative is not well-formed: {error}",)
    is_sound = root.tag == f"{_XHTML}div" and any(words.strip() for words in root.itertext(etree.Element))
    return () if is_sound and is_plain(text) else tuple(_all_faults(root))


def _all_faults(root: etree._Element) -> list[str]:
    if root.tag != f"{_XHTML}div":
        return ["The narrative must be a div in the XHTML namespace"]
    faults = [fault for element in root.iter() for fault in _element_faults(element)]
    if not "".join(map(str, root.itertext())).strip() and root.find(f".//{_XHTML}img") is None:
        faults.append("The narrative must have some text or an image")
    return faults


def _element_faults(element: etree._Element) -> list[str]:
    if not isinstance(element.tag, str):
        return [] if isinstance(element, etree._Comment) else ["The narrative must not have processing instructions"]
    name = element.tag.removeprefix(_XHTML)
    if name not in _ELEMENTS or not element.tag.startswith(_XHTML):
        return [f"The element {name} is not allowed in a narrative"]
    allowed = _ATTRIBUTES.get(name, frozenset()) | _COMMON
    faults = [f"The attribute {key} is not allowed on {name}" for key in map(str, element.keys()) if key not in allowed]
    if any(_acts(element.get(key)) for key in ("href", "src", "cite", "longdesc")):
        faults.append(f"The link of {name} is not allowed")
    if _STYLE.search(element.get("style") or ""):
        faults.append(f"The style of {name} is not allowed")
    return faults


def _acts(target: str | None) -> bool:
    """Whether a link runs something; browsers leave out blanks and control characters wherever they are."""
    return "".join(c for c in target or "" if c > " ").lower().startswith(_SCHEMES)
