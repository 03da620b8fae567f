"""The documents are true: what they tell to paste works, and what exists is described."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fhir_server.cli import app
from fhir_server.config import Config
from fhir_server.operations import OPERATIONS
from profiles import model
from search.types import MATCH
from tests.test_architecture import ROOMS
from tests.test_serve import free_port, served

ROOT = Path(__file__).parent.parent
PORT = "127.0.0.1:8000"
TYPES = {"", *model.RESOURCE_TYPES}  # `:Patient` and the others are described as `:Type`


def text(*names: str) -> str:
    return "\n".join((ROOT / name).read_text() for name in names)


def tour() -> Iterator[tuple[str, list[str]]]:
    """The commands of the README, each with the lines it prints."""
    lines = iter([*text("README.md").splitlines(), ""])
    for line in lines:
        if line.startswith("    $ "):
            expected = []
            for shown in lines:
                if not shown.strip():
                    break
                expected.append(shown.removeprefix("    "))
            yield line.removeprefix("    $ "), expected


def test_the_tour_of_the_readme(tmp_path: Path) -> None:
    """Each line is pasted into a shell, in its order, beside a new server with the demo hospital."""
    port = free_port()
    with served(tmp_path, port, "--demo"):
        for command, expected in tour():
            here = command.replace(PORT, f"127.0.0.1:{port}")
            done = subprocess.run(here, shell=True, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
            assert done.stdout.splitlines() == expected, command


def test_every_setting_is_described() -> None:
    told = text("docs/configuration.md")
    assert [n for n in Config.model_fields if f"`FHIR_{n.upper()}`" not in told] == []


def test_every_command_is_described() -> None:
    told = "\n".join(path.read_text() for path in (ROOT / "docs").glob("*.md")) + text("README.md")
    names = [c.name or c.callback.__name__ for c in app.registered_commands if c.callback] + [
        str(g.name) for g in app.registered_groups
    ]
    assert [name for name in names if f"fhir-server {name}" not in told] == []


def test_every_operation_is_described() -> None:
    told = "\n".join(path.read_text() for path in (ROOT / "docs").glob("*.md"))
    assert sorted({row.name for row in OPERATIONS if f"${row.name}" not in told}) == []


def test_every_modifier_is_described() -> None:
    told = text("docs/search.md")
    assert sorted({modifier for _, modifier in MATCH if modifier not in TYPES and f":{modifier}" not in told}) == []


@pytest.mark.parametrize(
    "page", [*sorted(p.relative_to(ROOT).as_posix() for p in ROOT.glob("docs/**/*.md")), "README.md"]
)
def test_links_lead_somewhere(page: str) -> None:
    """Links between the documents name files that are there."""
    for target in re.findall(r"\]\(([^)#\s]+)\)", text(page)):
        if "://" not in target:
            assert (ROOT / page).parent.joinpath(target).exists(), f"{page}: {target}"


def test_nothing_names_the_machine_it_was_written_on() -> None:
    """No path of one machine in what is published."""
    home = os.fspath(ROOT.parent)
    if home in ("/", "/app"):
        pytest.skip("the folder above is too short a name to look for")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    names = [n for n in listed if (ROOT / n).is_file() and f"{home}/".encode() in (ROOT / n).read_bytes()]
    assert names == []


PAGE = re.compile(r"\b(?:docs/[\w/-]+|[A-Z]{6,})\.md\b")
TEST = re.compile(r"`(?:tests/)?((?:attacks/|conformance/)?test_\w+\.py)`")


def test_documents_and_tests_that_are_named_are_there() -> None:
    """A comment that leads to a page leads somewhere, and so does a page that leads to a test."""
    rooms = (*ROOMS, "bench", "tests", "docs")
    ours = (path for room in rooms for path in (ROOT / room).rglob("*.[pm][yd]") if "node_modules" not in path.parts)
    told = {path: path.read_text() for path in ours}
    named = [(path, name) for path, words in told.items() for name in PAGE.findall(words)]
    named += [
        (path, f"tests/{name}") for path, words in told.items() if path.suffix == ".md" for name in TEST.findall(words)
    ]
    assert len(named) > 50
    assert [f"{path}: {name}" for path, name in named if not (ROOT / name).exists()] == []
