"""The embedded MongoDB: a child process, one-node replica set, on a private socket (docs/storage.md)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure, PyMongoError

from fhir_server.store.binary import cannot_run, find_mongod, wrong_platform
from fhir_server.store.owner import Owner
from fhir_server.store.process import Child, Process, Survivor, survivor
from profiles.outcome import FhirError

SOCKET = "mongod.sock"
# The name that clients connect by. It is there while mongod is primary: who connects earlier is told of a database
# without sessions, and the driver believes that for as long as the connection lives.
PRIMARY = "primary.sock"
# sun_path holds 108 bytes; mongod itself gets by with the relative name, so only the client's path counts.
SOCKET_LIMIT = 107
# After a crash mongod reads its journal first. Who waits is told of it, and not for ever.
SLOW_SECONDS = 10.0
START_SECONDS = 300.0
ANSWER_SECONDS = 3.0

log = logging.getLogger(__name__)

SLOW = "The embedded MongoDB is not ready yet, and is waited for; its log is %s."
FAILED = "The embedded MongoDB did not start ({reason}); its log is {log}."

OPTIONS = (
    *("--dbpath", "."),
    *("--bind_ip", f"./{SOCKET}"),
    # Without this it listens on /tmp/mongodb-27017.sock too, and takes that name from any other MongoDB.
    "--nounixsocket",
    *("--filePermissions", "0700"),
    *("--replSet", "fhir"),
    *("--oplogSize", "990"),
    "--noscripting",
    *("--networkMessageCompressors", "disabled"),
    *("--logpath", "mongod.log"),
    "--quiet",
    # Slow operations would be logged with their values, and those are patient data.
    *("--slowms", "100000000"),
    # Milliseconds that a clean stop waits for a new primary; there is none.
    *("--setParameter", "shutdownTimeoutMillisForSignaledShutdown=100"),
    *("--setParameter", "transactionLifetimeLimitSeconds=5"),
    *("--setParameter", "diagnosticDataCollectionEnabled=false"),
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where mongod works and how: its folder, the short link to it where one is needed, cache, life span."""

    folder: Path
    link: Path | None
    cache_gb: float
    mortal: bool

    @property
    def socket(self) -> Path:
        return (self.link or self.folder) / SOCKET

    @property
    def url(self) -> str:
        return _url((self.link or self.folder) / PRIMARY)

    def open(self) -> None:
        """Let clients in."""
        (self.folder / PRIMARY).symlink_to(SOCKET)

    def shut(self) -> None:
        """Let nobody in."""
        (self.folder / PRIMARY).unlink(missing_ok=True)

    def leave(self) -> None:
        """Take away what leads to the database."""
        self.shut()
        if self.link is not None:
            with contextlib.suppress(OSError):
                self.link.unlink()
                self.link.parent.rmdir()


class Embedded:
    """A running mongod and the lock on its data folder."""

    def __init__(self, owner: Owner, process: Process, place: Place) -> None:
        self._owner = owner
        self._process = process
        self._place = place
        self.url = place.url
        owner.name(self.url)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def adopted(self) -> bool:
        """Whether this mongod outlived an earlier server on the same data."""
        return isinstance(self._process, Survivor)

    @classmethod
    async def start(cls, data: str | Path, *, cache_gb: float | None = None, mortal: bool = False) -> Embedded:
        """Start a mongod on `data`, or take over the one that a killed server left.

        FhirError with one sentence where the folder is in use or no mongod can run. `mortal`: it ends with this
        process whatever happens, which tests want.
        """
        owner, folder = _claim(Path(data))
        place = Place(folder, _link(folder), cache_gb or _cache_gb(), mortal)
        try:
            return cls(owner, await _process(place), place)
        except BaseException:
            place.leave()
            owner.release()
            raise

    async def watch(self, *, seconds: float = 1) -> None:
        """Start mongod again whenever it dies (memory, an operator's hand), until cancelled."""
        while True:
            await asyncio.sleep(seconds)
            if not self._process.alive():
                log.error("The embedded MongoDB (process %d) has died and is started again.", self.pid)
                with contextlib.suppress(FhirError):  # the reason is in its log, and the next round tries again
                    self._process = await _process(self._place)

    async def stop(self) -> None:
        """End mongod cleanly and let the folder go."""
        await self._process.end()
        self._place.leave()
        self._owner.release()


async def _process(place: Place) -> Process:
    place.shut()
    left = survivor(place.folder)
    if left is not None:
        if await _answers(place.socket):
            await _lead(left, place)
            return left
        await left.end()
    child = _spawn(place)
    try:
        await _lead(child, place)
    except BaseException:
        await child.end()
        raise
    return child


def _spawn(place: Place) -> Child:
    binary, folder = find_mongod(), place.folder
    (folder / SOCKET).unlink(missing_ok=True)
    with contextlib.suppress(FileNotFoundError):
        (folder / "mongod.log").replace(folder / "mongod.log.old")
    command = [str(binary), *OPTIONS, "--wiredTigerCacheSizeGB", f"{place.cache_gb:.2f}"]
    setpriv = shutil.which("setpriv") if place.mortal else None
    prefix = [setpriv, "--pdeathsig", "KILL"] if setpriv else []
    with (folder / "mongod.err").open("wb") as errors:
        try:
            # A session of its own: the terminal's Ctrl-C reaches the server, which then stops mongod in order.
            process = subprocess.Popen(  # noqa: S603 (a fixed command line)
                prefix + command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                start_new_session=True,
            )
        except OSError as error:
            raise wrong_platform(binary, error) from error
    return Child(process)


async def _lead(process: Process, place: Place) -> None:
    """Make a mongod that begins ready for clients, and let them in; FhirError when it ends or takes too long."""
    path = place.folder / "mongod.log"
    note = asyncio.get_running_loop().call_later(SLOW_SECONDS, log.warning, SLOW, path)
    try:
        async with asyncio.timeout(START_SECONDS):
            await _until_primary(process, place)
    except TimeoutError:
        reason = f"it was not ready after {START_SECONDS:.0f} seconds"
        raise FhirError("exception", FAILED.format(reason=reason, log=path)) from None
    finally:
        note.cancel()
    place.open()


async def _until_primary(process: Process, place: Place) -> None:
    """Wait until mongod accepts connections, make it a replica set, wait until it is primary."""
    while not await _accepts(place.socket):
        _check_alive(process, place.folder)
        await asyncio.sleep(0.01)
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(_url(place.socket), timeoutMS=10_000)
    try:
        while not await _is_primary(client):
            _check_alive(process, place.folder)
            await asyncio.sleep(0.01)
    finally:
        await client.close()


async def _is_primary(client: AsyncMongoClient[dict[str, Any]]) -> bool:
    with contextlib.suppress(PyMongoError):
        hello = await client.admin.command("hello")
        if hello.get("isWritablePrimary"):
            return True
        if "setName" not in hello:
            # A relative socket is a member's name that stays right when the folder moves.
            members = [{"_id": 0, "host": f"./{SOCKET}"}]
            with contextlib.suppress(OperationFailure):
                await client.admin.command({"replSetInitiate": {"_id": "fhir", "members": members}})
    return False


def _check_alive(process: Process, folder: Path) -> None:
    if process.alive():
        return
    said = (folder / "mongod.err").read_text(errors="replace").strip()
    known = cannot_run(find_mongod(), said)
    reason = said.splitlines()[-1] if said else "it ended at once"
    raise known or FhirError("exception", FAILED.format(reason=reason, log=folder / "mongod.log"))


async def _accepts(socket: Path) -> bool:
    try:
        _, writer = await asyncio.open_unix_connection(str(socket))
    except OSError:
        return False
    writer.close()
    return True


async def _answers(socket: Path) -> bool:
    """Whether a survivor still works: one that hangs is no use to anybody."""
    if not await _accepts(socket):
        return False
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(_url(socket), timeoutMS=int(ANSWER_SECONDS * 1000))
    try:
        await client.admin.command("ping")
    except PyMongoError:
        return False
    finally:
        await client.close()
    return True


def _url(socket: Path) -> str:
    return f"mongodb://{quote(str(socket), safe='')}/?directConnection=true"


def folder_of(url: str) -> Path | None:
    """The folder of the embedded database that answers at this URL, None for another MongoDB."""
    path = Path(unquote(urlsplit(url).netloc))
    return path.parent if path.name == PRIMARY else None


def _claim(data: Path) -> tuple[Owner, Path]:
    data = data.resolve()
    try:
        owner = Owner(data)
        folder = data / "db"
        folder.mkdir(exist_ok=True, mode=0o700)
    except OSError as error:
        text = f"The data folder {data} cannot be used: {error.strerror}. Choose another with --data."
        raise FhirError("exception", text) from None
    return owner, folder


def _link(folder: Path) -> Path | None:
    """A short way, in a folder that only this user can change, to a socket whose own path is too long."""
    if len(os.fsencode(folder / PRIMARY)) <= SOCKET_LIMIT:
        return None
    link = Path(tempfile.mkdtemp(prefix="fhir-")) / "db"
    link.symlink_to(folder)
    return link


def _cache_gb() -> float:
    """A quarter of the memory, within bounds: the server and the file cache want theirs."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):
        total = min(total, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return min(max(0.25, total / 4 / 1024**3), 4.0)
