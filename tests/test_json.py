"""JSON is read strictly and written back digit for digit (http://hl7.org/fhir/R4/json.html)."""

from __future__ import annotations

import copy
import json as plain
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiles.json import decode, encode, parse, pretty
from profiles.outcome import FhirError

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))
NUMBER = st.one_of(
    st.integers(-(10**30), 10**30).map(str).filter(lambda s: s != "-0"),
    st.from_regex(r"\A-?(0|[1-9][0-9]{0,40})\.[0-9]{1,40}\Z"),
    st.from_regex(r"\A-?(0|[1-9][0-9]{0,9})(\.[0-9]{1,9})?[eE][+-]?[0-9]{1,2}\Z"),
)
TREE = st.recursive(
    st.one_of(st.none(), st.booleans(), TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXT, inner, max_size=4)),
    max_leaves=30,
)


@given(NUMBER)
def test_numbers_keep_every_digit(text: str) -> None:
    """P07: 0.10, 1.0e3 and 100 digits come back byte for byte."""
    raw = b'{"value":' + text.encode() + b"}"
    assert encode(parse(raw)) == raw


def test_copies_of_a_decimal_keep_its_text() -> None:
    """A deep copy, as patches make, still prints what was read."""
    assert encode(copy.deepcopy(parse(b'{"a":1.0e3,"b":0.00000001}'))) == b'{"a":1.0e3,"b":0.00000001}'


def test_a_literal_is_a_decimal() -> None:
    """Code that calculates sees a Decimal."""
    value = parse(b"[1.0e3]")[0]
    assert isinstance(value, Decimal)
    assert value == 1000


@given(TREE.filter(lambda t: isinstance(t, (dict, list))), st.sampled_from([None, 1]), st.booleans())
def test_any_tree_reads_as_the_standard_library_reads_it(tree: Any, indent: int | None, ascii_only: bool) -> None:
    """Strict reading does not change what is legal, however it is spaced and escaped."""
    raw = plain.dumps(tree, indent=indent, ensure_ascii=ascii_only, separators=(" ,", " : ") if indent else None)
    assert parse(raw.encode()) == tree


@given(TREE.filter(lambda t: isinstance(t, dict) and len(t) > 0), st.data())
def test_a_duplicate_key_is_found_wherever_it_is(tree: dict[str, Any], data: st.DataObject) -> None:
    """P03: two properties of one name are refused, at any depth and with any spacing."""
    key = data.draw(st.sampled_from(sorted(tree)))
    ascii_only, depth = data.draw(st.booleans()), data.draw(st.integers(0, 5))
    space = data.draw(st.sampled_from(["", " ", "\n", "\t "]))
    twin = plain.dumps(key, ensure_ascii=ascii_only) + space + ":" + plain.dumps(data.draw(TREE))
    raw = "[" * depth + plain.dumps(tree)[:-1] + "," + twin + "}" + "]" * depth
    with pytest.raises(FhirError, match="occurs twice"):
        parse(raw.encode())


@pytest.mark.parametrize(
    ("raw", "text", "line", "column"),
    [
        (b'{"id":1,"id":2}', "the property 'id' occurs twice in one object", 1, 9),
        (b'{\n  "a": 1,\n  "a" :1}', "the property 'a' occurs twice in one object", 3, 3),
        (b'{\n  "a": 1\n  "b": 2}', "expected ',' or '}'", 3, 3),
        (b'{"a": NaN}', "invalid character", 1, 7),
        ('{"ä": NaN}'.encode(), "invalid character", 1, 7),  # columns are characters
        (b'{"a": Infinity}', "invalid character", 1, 7),
        (b'{"a":\n"\\ud800"}', "half of a surrogate pair is no character", 2, 2),
        (b'{"a":"\\udc00"}', "half of a surrogate pair is no character", 1, 7),
        (b'{"a":"x\\u0000"}', "the character U+0000 is not allowed in FHIR", 1, 8),
        (b'{"\\u0000":1}', "the character U+0000 is not allowed in FHIR", 1, 3),
        (b'{"a":"\xc0\x80"}', "the text is not valid UTF-8", 1, 7),
        (b"\xff\xfe{\x00", "invalid character", 1, 1),
        (b'{"a":"b\tc"}', "invalid character", 1, 8),
        (b'{"a":01}', "invalid number", 1, 7),
        (b'{"a":1,}', "trailing comma in object", 1, 8),
        (b'{"a":1', "Input data was truncated", 1, 7),
        (b"", "Input data was truncated", 1, 1),
        (b'"text"', "a JSON object is expected", 1, 1),
        (b'{"a":1} x', "trailing characters", 1, 10),
        (b"[" * 65 + b"]" * 65, "nested deeper than 64 levels", 1, 65),
        (b'["' + b"]" * 70 + b'",' + b"[" * 64 + b"]" * 65, "nested deeper than 64 levels", 1, 138),
        (b"[" * 5000 + b"]" * 5000, "nested deeper than 64 levels", 1, 65),
        (b"[" * 2_000_000, "nested deeper than 64 levels", 1, 65),
    ],
)
def test_what_is_refused_and_where(raw: bytes, text: str, line: int, column: int) -> None:
    """P01, P03, P05: every refusal is a 400 that names line and column."""
    with pytest.raises(FhirError) as refused:
        parse(raw)
    assert refused.value.status == 400
    assert refused.value.text == f"This is not JSON that FHIR allows: {text} (line {line}, column {column})"
    assert (refused.value.issues[0].line, refused.value.issues[0].column) == (line, column)


@pytest.mark.parametrize("number", ["1e1000000", "1e-999999", "1e99999999999999999999", "1" * 401 + ".5", "9" * 5000])
def test_absurd_numbers_are_refused(number: str) -> None:
    """D13: a number that would take seconds to calculate with never gets in."""
    with pytest.raises(FhirError, match="beyond the limits"):
        parse(b'{"value":' + number.encode() + b"}")


@pytest.mark.parametrize(
    "raw",
    [
        b"\xef\xbb\xbf{}",
        b"[" * 64 + b"]" * 64,
        b'{"a":"\\ud83d\\ude00"}',
        b'{"a":"\\\\u0000"}',
        b'{"a":"x\\":y","b" :"\\u0022:"}',
        '{"a":"\u202e \u00e9"}'.encode(),
    ],
)
def test_what_is_allowed(raw: bytes) -> None:
    """A byte order mark, 64 levels, a surrogate pair, escaped quotes: all fine."""
    assert parse(raw) == plain.loads(raw.decode("utf-8-sig"))


@pytest.mark.parametrize("number", ["1e3000", "1" * 401 + ".50", "9" * 5000, "1.0e3", "1E-8"])
def test_what_is_stored_is_read_without_limits(number: str) -> None:
    """The limits are for what comes in: a body from before them does not break the Bundle that it stands in."""
    body = b"[" * 70 + number.encode() + b"]" * 70
    assert encode(decode(body)) == body


def test_pretty_indents_by_two() -> None:
    """`_pretty=true` changes white space only."""
    assert pretty(b'{"a":[1.00]}') == b'{\n  "a": [\n    1.00\n  ]\n}'
