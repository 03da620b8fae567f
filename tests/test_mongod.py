"""The embedded MongoDB: found, started, stopped, taken over, and explained where it cannot run."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from fhir_server.config import Config
from fhir_server.opening import open_context
from fhir_server.store import Embedded, Store, open_store
from fhir_server.store.binary import find_mongod
from fhir_server.store.connect import _version_warnings
from fhir_server.store.mongod import _is_primary
from fhir_server.store.process import survivor
from profiles.outcome import FhirError

pytestmark = pytest.mark.anyio

# A server in little: it starts the database on the folder it is given, says so, and waits.
SERVER = """
import asyncio, sys
from fhir_server.store import Embedded
async def main():
    embedded = await Embedded.start(sys.argv[1], cache_gb=0.25)
    print(embedded.pid, flush=True)
    await asyncio.sleep(3600)
asyncio.run(main())
"""


async def start(data: Path) -> Embedded:
    return await Embedded.start(data, cache_gb=0.25, mortal=True)


@pytest.fixture
async def embedded(tmp_path: Path) -> AsyncIterator[Embedded]:
    """A mongod of its own, for tests that hurt it."""
    running = await start(tmp_path)
    yield running
    await running.stop()


def is_running(pid: int) -> bool:
    """Whether the process has a folder yet: one that ends closes its files first, and is listed a little longer."""
    try:
        return bool(Path(f"/proc/{pid}/cwd").readlink())
    except OSError:
        return False


def open_ports(pid: int) -> list[str]:
    """The addresses a process listens on."""
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [row[1] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in files_of(pid)]


def open_sockets(pid: int) -> set[str]:
    """The paths of its Unix sockets."""
    rows = [row.split() for row in Path("/proc/net/unix").read_text().splitlines()[1:]]
    return {row[7] for row in rows if len(row) > 7 and f"socket:[{row[6]}]" in files_of(pid)}


def files_of(pid: int) -> set[str]:
    """What a process has open."""
    own = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # a file that was closed since
            own.add(os.readlink(link))
    return own


def child(*command: str) -> subprocess.Popen[bytes]:
    """A process that ends with this one."""
    setpriv = shutil.which("setpriv")
    prefix = [setpriv, "--pdeathsig", "KILL"] if setpriv else []
    return subprocess.Popen([*prefix, *command], stdout=subprocess.PIPE)


def script(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


async def test_data_survives_a_clean_stop(tmp_path: Path) -> None:
    """Started, stopped and started again, also after the folder was moved."""
    first = await start(tmp_path / "a")
    store = await open_store(first.url)
    await store.driver.state.insert_one({"_id": "x"})
    await store.close()
    await first.stop()
    assert not is_running(first.pid)
    (tmp_path / "a").rename(tmp_path / "b")
    second = await start(tmp_path / "b")
    store = await open_store(second.url)
    assert await store.driver.state.count_documents({}) == 1
    await store.close()
    await second.stop()


async def test_a_long_path_is_reached_by_a_short_one(tmp_path: Path) -> None:
    """A socket's path holds 108 bytes; a data folder's may be longer."""
    running = await start(tmp_path / ("x" * 120))
    store = await open_store(running.url)
    await store.ping()
    await store.close()
    link = running._place.link
    await running.stop()
    assert link is not None
    assert not link.parent.exists()


async def test_only_the_owner_may_connect(embedded: Embedded) -> None:
    """The socket is private and no port is open."""
    assert embedded._place.socket.stat().st_mode & 0o077 == 0
    assert open_ports(embedded.pid) == []


async def test_nothing_listens_elsewhere(embedded: Embedded) -> None:
    """mongod would take the usual socket in /tmp as well, also where another MongoDB has it."""
    assert open_sockets(embedded.pid) == {"./mongod.sock"}


async def test_nobody_meets_a_database_that_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection made before it is primary would know no sessions for as long as it lives."""
    running = await start(tmp_path)
    store = await open_store(running.url, reach=20)
    met: list[bool] = []

    async def look(*given: Any) -> bool:
        try:
            _, writer = await asyncio.open_unix_connection(unquote(urlsplit(running.url).netloc))
            writer.close()
            met.append(True)
        except OSError:
            met.append(False)
        return await _is_primary(*given)

    monkeypatch.setattr("fhir_server.store.mongod._is_primary", look)
    watch = asyncio.create_task(running.watch(seconds=0.05))
    os.kill(running.pid, signal.SIGKILL)
    await asyncio.gather(*(store.get("Patient", str(n)) for n in range(50)))
    watch.cancel()
    assert set(met) == {False}
    await store.close()
    await running.stop()


async def test_a_second_server_is_refused_by_name(embedded: Embedded, tmp_path: Path) -> None:
    """The refusal names the process that owns the data."""
    with pytest.raises(FhirError, match=f"in use by the server with process id {os.getpid()}, started at 20"):
        await start(tmp_path)


async def test_a_killed_server_leaves_its_mongod_to_the_next(tmp_path: Path) -> None:
    """After kill -9 of the server the surviving mongod is taken over, and then stopped in order."""
    server = child(sys.executable, "-c", SERVER, str(tmp_path))
    assert server.stdout is not None
    pid = int(await asyncio.to_thread(server.stdout.readline))
    server.kill()
    await asyncio.to_thread(server.wait)
    server.stdout.close()
    assert is_running(pid)
    heir = await start(tmp_path)
    assert (heir.pid, heir.adopted) == (pid, True)
    store = await open_store(heir.url)
    await store.ping()
    await store.close()
    await heir.stop()
    assert not is_running(pid)


async def test_a_survivor_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mongod that does not answer is no use: it is ended and another started."""
    first = await start(tmp_path)
    os.kill(first.pid, signal.SIGSTOP)
    first._owner.release()
    monkeypatch.setattr("fhir_server.store.process.PATIENCE", 0.5)
    monkeypatch.setattr("fhir_server.store.mongod.ANSWER_SECONDS", 0.5)
    asyncio.get_running_loop().run_in_executor(None, first._process._process.wait)  # type: ignore[attr-defined]
    second = await start(tmp_path)
    assert second.pid != first.pid
    assert not is_running(first.pid)
    await second.stop()


async def test_a_mongod_that_dies_is_started_again(embedded: Embedded) -> None:
    """The watch brings a killed mongod back, and an open store goes on."""
    store = await open_store(embedded.url, reach=20)
    watch = asyncio.create_task(embedded.watch(seconds=0.05))
    old = embedded.pid
    os.kill(old, signal.SIGKILL)
    while embedded.pid == old:  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    await store.ping()
    watch.cancel()
    await store.close()


async def test_one_that_never_leads_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In a sentence at the start, after one that names the log; the watch tries again."""

    async def never(client: Any) -> bool:
        return False

    def let(lead: bool) -> None:
        monkeypatch.setattr("fhir_server.store.mongod._is_primary", _is_primary if lead else never)
        monkeypatch.setattr("fhir_server.store.mongod.START_SECONDS", 60 if lead else 1)

    let(lead=False)
    monkeypatch.setattr("fhir_server.store.mongod.SLOW_SECONDS", 0.2)
    with pytest.raises(
        FhirError, match=r"did not start \(it was not ready after 1 seconds\); its log is .*mongod\.log"
    ):
        await start(tmp_path)
    assert "mongod.log" in caplog.text
    let(lead=True)
    running = await start(tmp_path)
    let(lead=False)
    old = running.pid
    watch = asyncio.create_task(running.watch(seconds=0.05))
    os.kill(old, signal.SIGKILL)
    await asyncio.sleep(2)
    let(lead=True)
    while running.pid == old and not watch.done():  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    assert not watch.done()
    watch.cancel()
    await running.stop()


async def test_another_process_with_the_number_is_left_alone(tmp_path: Path) -> None:
    """A process number in a stale lock may belong to anybody by now."""
    (tmp_path / "mongod.lock").write_text(str(os.getpid()))
    assert survivor(tmp_path) is None
    for text in ("", "0", "-1", "9" * 20):
        (tmp_path / "mongod.lock").write_text(text)
        assert survivor(tmp_path) is None


def test_a_survivor_is_there_until_it_has_ended(tmp_path: Path) -> None:
    """A process that ends gives its memory back, and with it the command line, before its files and locks."""
    line = ["sh", "-c", "echo $$; read go; exec sleep 60", "--replSet"]
    with subprocess.Popen(line, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as mongod:
        assert mongod.stdin is not None
        assert mongod.stdout is not None
        (tmp_path / "mongod.lock").write_bytes(mongod.stdout.readline())
        left = survivor(tmp_path)
        assert left is not None
        mongod.stdin.write(b"go\n")
        mongod.stdin.flush()
        while b"--replSet" in Path(f"/proc/{mongod.pid}/cmdline").read_bytes():
            time.sleep(0.01)
        assert left.alive()
        mongod.kill()
        mongod.wait()
        assert not left.alive()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "#!/bin/sh\necho 'x: error while loading shared libraries: libcurl.so.4: cannot open' >&2; exit 127",
            r"shared library libcurl\.so\.4 is missing: install it \(Debian, Ubuntu: apt-get install libcurl4\), "
            r"or give the URL of a MongoDB replica set with --mongo \(FHIR_MONGO\)\.",
        ),
        (
            "#!/bin/sh\necho 'x: error while loading shared libraries: libodd.so.1: cannot open' >&2; exit 127",
            r"shared library libodd\.so\.1 is missing: install it, or give the URL",
        ),
        (
            '#!/bin/sh\necho "x: /lib/libc.so.6: version \\`GLIBC_2.99\' not found" >&2; exit 1',
            r"cannot run on this platform \(GLIBC_2\.99 is not there\)",
        ),
        ("no program", r"cannot run on this platform \(Exec format error\)"),
        ("#!/bin/sh\nexit 3", r"did not start \(it ended at once\); its log is .*mongod\.log"),
    ],
)
async def test_why_it_cannot_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str) -> None:
    """One sentence names what is missing and the ways out, and the folder is free again."""
    monkeypatch.setenv("FHIR_MONGOD", str(script(tmp_path / "mongod", text)))
    for _ in range(2):
        with pytest.raises(FhirError, match=said):
            await Embedded.start(tmp_path / "data", cache_gb=0.25)


def test_where_mongod_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FHIR_MONGOD first, then PATH, then the wheel; a sentence where there is none."""
    named, on_path = script(tmp_path / "named", ""), script(tmp_path / "mongod", "")
    path = {"PATH": str(tmp_path)}
    assert find_mongod({"FHIR_MONGOD": str(named), **path}) == named
    assert find_mongod(path) == on_path
    with pytest.raises(FhirError, match=r"FHIR_MONGOD names .*/none, which is not there"):
        find_mongod({"FHIR_MONGOD": str(tmp_path / "none")})
    on_path.unlink()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FhirError, match="No mongod was found: install MongoDB"):
        find_mongod(path)


async def test_a_standalone_is_refused_with_what_to_do(tmp_path: Path) -> None:
    """A mongod outside a replica set can neither hold transactions nor majority reads."""
    socket = tmp_path / "mongod.sock"
    log = str(tmp_path / "log")
    alone = child(str(find_mongod()), "--dbpath", str(tmp_path), "--bind_ip", str(socket), "--logpath", log)
    try:
        url = f"mongodb://{str(socket).replace('/', '%2F')}"
        with pytest.raises(FhirError, match=r"runs alone.*mongod with --replSet rs0 and run rs\.initiate\(\) once"):
            await open_store(url, reach=20)
    finally:
        alone.kill()
        await asyncio.to_thread(alone.communicate)


async def test_a_url_where_nothing_answers() -> None:
    """The refusal names the host, and no password."""
    with pytest.raises(FhirError, match=r"MongoDB at /none\.sock does not answer") as caught:
        await open_store("mongodb://user:secret@%2Fnone.sock/?directConnection=true", reach=0.2)
    assert "secret" not in caught.value.text
    with pytest.raises(FhirError, match="The MongoDB URL cannot be used"):
        await open_store("http://127.0.0.1", reach=0.2)


@pytest.mark.parametrize(
    ("version", "warned"),
    [
        ((6, 0, 5), True),
        ((7, 0, 34), True),
        ((7, 0, 35), False),
        ((8, 0, 24), False),
        ((8, 2, 0), False),
        ((9, 0, 0), False),
    ],
)
def test_old_releases_are_warned_about(version: tuple[int, ...], warned: bool) -> None:
    """Below 7.0.35 and 8.0.24 the operator is warned."""
    assert bool(_version_warnings(version)) == warned


def test_too_old_a_release_is_refused() -> None:
    """What lacks snapshot reads and the like cannot be used."""
    with pytest.raises(FhirError, match=r"MongoDB 4\.4\.1 is too old"):
        _version_warnings((4, 4, 1))


async def test_the_server_attends_to_its_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server on an embedded database starts a killed mongod again and watches the disk, until it stops."""
    usage = shutil.disk_usage("/")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage._replace(free=0))
    async with AsyncExitStack() as stack:
        context = await open_context(Config(data=tmp_path), stack)
        store = context.store
        assert isinstance(store, Store)
        old = (tmp_path / "db" / "mongod.lock").read_text()
        os.kill(int(old), signal.SIGKILL)
        assert await store.get("Patient", "1") is None
        assert store.read_only
        new = (tmp_path / "db" / "mongod.lock").read_text()
        assert new != old
    assert not is_running(int(new))
