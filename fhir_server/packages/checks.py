"""`fhir-server validate`: files checked in full, with every issue told and a summary at the end."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from fhir_server.config import Config
from fhir_server.loading.files import plain_name, read_document, read_lines
from fhir_server.loading.plan import is_foreign
from fhir_server.opening import open_context
from fhir_server.packages.files import with_dependencies
from fhir_server.packages.install import ANYBODY
from fhir_server.writing.checking import full
from fhir_server.writing.coded_values import code_faults, membership
from profiles.json import parse
from profiles.outcome import FhirError, Issue
from profiles.validate import Library, Options, Shelf, validate, with_expressions, with_places
from profiles.xml import read_xml
from terminology.content import shipped
from terminology.library import Library as Terminology
from terminology.library import Loose

Resource = dict[str, Any]
Check = Callable[[Resource], Awaitable[list[Issue]]]

ENDINGS = (".json", ".xml", ".ndjson", ".jsonl")
STRICT = Options(unknown_profiles="error")


@dataclass(frozen=True, slots=True)
class Text:
    """A resource as it stands in a file, how many lines stand before it, and whether a folder held the file."""

    path: Path
    raw: bytes
    before: int = 0
    found: bool = False

    @property
    def is_xml(self) -> bool:
        return plain_name(self.path).endswith(".xml")


async def check_files(
    paths: Sequence[Path], profiles: Sequence[str], packages: Sequence[Path], config: Config | None
) -> bool:
    """Tell the issues of all files; True when none is an error."""
    checked, wrong, passed = 0, 0, 0
    async with _checking(profiles, packages, config) as check:
        for text in _texts(paths):
            if _is_foreign(text):
                passed += 1
                continue
            issues = await _issues(text, check)
            checked += 1
            wrong += any(issue.is_error for issue in issues)
            for issue in issues:
                typer.echo(line(text, issue))
    over = f"; passed over, as they are no resources: {passed}" if passed else ""
    typer.echo(f"{checked} resources checked, {wrong} with errors{over}", err=True)
    return not wrong


def _is_foreign(text: Text) -> bool:
    """JSON that a folder held and that is no resource, such as a package's own description."""
    return text.found and not text.is_xml and is_foreign(text.raw)


def line(text: Text, issue: Issue) -> str:
    """An issue as compilers tell theirs: file, line and column, severity, text."""
    place = f":{text.before + issue.line}" if issue.line is not None else ""
    place += f":{issue.column}" if place and issue.column is not None else ""
    return f"{text.path}{place}: {issue.severity}: {issue.text}"


async def _issues(text: Text, check: Check) -> list[Issue]:
    try:
        if text.is_xml:
            resource, found = read_xml(text.raw)
            return with_places([*found, *await check(resource)], text.raw)
        return with_places(await check(parse(text.raw)), text.raw)
    except FhirError as error:
        return with_expressions(error.issues, text.raw)


def _texts(paths: Iterable[Path]) -> Iterator[Text]:
    """The text of every resource under the paths."""
    given = frozenset(paths)
    for path in (found for each in paths for found in _under(each)):
        try:
            if plain_name(path).endswith((".ndjson", ".jsonl")):
                rows = enumerate(read_lines(path, lambda size: None))
                yield from (Text(path, row, number) for number, row in rows if row.strip())
            else:
                yield Text(path, read_document(path), found=path not in given)
        except (OSError, EOFError, zlib.error, ValueError) as error:
            raise FhirError(
                "not-found", f"{path} cannot be read: {getattr(error, 'strerror', None) or error}"
            ) from None


def _under(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return sorted(found for found in path.rglob("*") if plain_name(found).endswith(ENDINGS) and found.is_file())


@asynccontextmanager
async def _checking(profiles: Sequence[str], packages: Sequence[Path], config: Config | None) -> AsyncIterator[Check]:
    """The check against the database's definitions, or against the packages and R4 alone."""
    if config is None:
        library = library_of(packages)

        async def alone(resource: Resource) -> list[Issue]:
            return validate(resource, library, profiles=profiles, options=STRICT if profiles else None)

        yield alone
        return
    async with AsyncExitStack() as stack:
        context = await open_context(config, stack)

        async def stored(resource: Resource) -> list[Issue]:
            return await full(resource, ANYBODY, context, profiles, STRICT if profiles else None)

        yield stored


def library_of(packages: Sequence[Path]) -> Library:
    """The definitions of package files and of what lies beside them."""
    sources = with_dependencies(packages) if packages else []
    resources = [member.resource for source in sources for member in source.package.of()]
    terminology = Terminology((Loose(resources), shipped()))
    return Library(Shelf(resources).find, membership(terminology), code_fault=code_faults(terminology))
