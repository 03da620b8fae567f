"""The shape of the code: which room may know which, one driver, sizes (docs/architecture.md)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from statistics import median, quantiles

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("profiles", "search", "terminology", "smart_auth", "fhir_server", "seed")
# Room -> what of ours it may import, besides itself.
ALLOWED: dict[str, tuple[str, ...]] = {
    "profiles": (),
    "search": ("profiles",),
    "terminology": ("profiles",),
    "smart_auth": ("profiles.outcome", "profiles.model", "profiles.json", "search.query"),
    "fhir_server": ("profiles", "search", "terminology", "smart_auth", "seed"),
    "seed": (),
}
PURE = ("profiles", "search")
# What a pure room does without: clocks, chance, the environment, sockets, processes.
IMPURE = frozenset(
    ("asyncio", "http", "os", "random", "secrets", "socket", "subprocess", "threading", "time", "urllib.request")
)
DRIVERS = ("pymongo", "bson", "gridfs")
WEB = ("starlette", "uvicorn")


def sources(*rooms: str) -> Iterator[tuple[str, Path]]:
    for room in rooms:
        for path in sorted((ROOT / room).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), path


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{name.name}" for name in node.names}
    return found


def within(name: str, rooms: tuple[str, ...]) -> bool:
    return any(name == room or name.startswith(f"{room}.") for room in rooms)


@pytest.mark.parametrize("room", ROOMS)
def test_arrows_point_one_way(room: str) -> None:
    """A room imports itself and what its row of the table allows."""
    allowed = (room, *ALLOWED[room])
    for place, path in sources(room):
        ours = {name for name in imports(path) if within(name, ROOMS)}
        strange = {
            name for name in ours if not within(name, allowed) and not any(a.startswith(f"{name}.") for a in allowed)
        }
        assert not strange, f"{place} imports {sorted(strange)}"


def test_pure_rooms_do_no_io() -> None:
    """No clock, no chance, no environment, no sockets (CONTRIBUTING.md)."""
    for place, path in sources(*PURE):
        assert not imports(path) & IMPURE, place


def test_the_driver_is_known_in_one_room() -> None:
    """Only fhir_server/store touches the MongoDB driver."""
    for place, path in sources(*ROOMS):
        if not place.startswith("fhir_server/store/"):
            assert not [name for name in imports(path) if within(name, DRIVERS)], place


def test_the_web_framework_stays_at_the_door() -> None:
    """Interactions, operations and the store know neither starlette nor uvicorn."""
    inner = ("fhir_server/interactions", "fhir_server/operations", "fhir_server/store")
    for place, path in sources(*ROOMS):
        if not place.startswith("fhir_server/") or place.startswith(inner):
            assert not [name for name in imports(path) if within(name, WEB)], place


def test_nothing_slow_is_on_the_way_in() -> None:
    """fhir.resources builds models in seed and is a second opinion in tests; it is on no path of a request."""
    for place, path in sources("profiles", "search", "terminology", "smart_auth", "fhir_server"):
        assert not [name for name in imports(path) if within(name, ("fhir",))], place


def functions() -> Iterator[int]:
    for _, path in sources(*ROOMS):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield (node.end_lineno or node.lineno) - node.lineno + 1


def test_sizes() -> None:
    """Functions: median at most 8 lines, nine in ten at most 25; files: nine in ten at most 300."""
    lengths = list(functions())
    assert median(lengths) <= 8
    assert quantiles(lengths, n=10)[-1] <= 25
    files = [len(path.read_text().splitlines()) for _, path in sources(*ROOMS)]
    assert quantiles(files, n=10)[-1] <= 300


NAMES = ("manager", "helper", "util", "base", "impl", "service")


def test_names() -> None:
    """Classes have the specification's words for names (CONTRIBUTING.md)."""
    for place, path in sources(*ROOMS):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.ClassDef):
                assert not node.name.lower().endswith(NAMES), f"{place}: {node.name}"


def modules(room: str) -> dict[str, Path]:
    names = ((path.relative_to(ROOT).with_suffix("").as_posix().replace("/", "."), path) for _, path in sources(room))
    return {name.removesuffix(".__init__"): path for name, path in names}


@pytest.mark.parametrize("room", ("profiles", "search", "terminology", "seed"))
def test_no_circles(room: str) -> None:
    """No module of a pure room leads back to itself, whether imported at the top, in a function or for types only."""
    ours = modules(room)
    left = {n: {i for i in imports(p) if i in ours and not n.startswith(f"{i}.") and i != n} for n, p in ours.items()}
    while ends := [name for name, names in left.items() if not names]:
        left = {name: names.difference(ends) for name, names in left.items() if name not in ends}
    assert not left
