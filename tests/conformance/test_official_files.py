"""All official R4 files in full validation: no error but in those whose own content is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from fhir_server.packages.checks import library_of
from profiles.json import parse
from profiles.validate import Options, validate
from tests import official

WRONG = {
    n: (count, text) for n, count, text in yaml.safe_load(Path(__file__).with_name("official_faults.yaml").read_text())
}


@pytest.mark.slow
@pytest.mark.skipif(official.PACKAGE is None, reason="FHIR_EXAMPLES does not name the official package")
def test_official_files_have_no_errors_but_the_known_ones() -> None:
    """5,305 files with invariants, extensions, references, bundles, narratives and the terminology of the server."""
    library, options = library_of(()), Options(unknown_extensions="error")
    found = {}
    for name, body in official.everything():
        errors = [i.text for i in validate(parse(body), library, options=options) if i.severity == "error"]
        if errors:
            found[name] = (len(errors), errors[0])
    assert found == WRONG
