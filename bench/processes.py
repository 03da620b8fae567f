"""The processes under test: started, measured from outside through /proc, stopped."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

PROGRAM = "from fhir_server.cli import main; main()"
# The same with an audit trail that is told of interactions and writes nothing: what the gate costs by itself.
SILENT = f"""
from fhir_server.access.auditing import Trail
async def nothing(*told): pass
Trail.record = nothing
{PROGRAM}
"""
TICK = os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def memory(pid: int) -> int:
    """Resident bytes of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def machine_seconds() -> float:
    """Processor time that everybody on this machine has used so far."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    return (sum(fields) - fields[3] - fields[4]) / TICK


class Server:
    """A server process that answers HTTP on a port of its own."""

    def __init__(self, *command: str, port: int, path: str, **environment: str) -> None:
        self.port = port
        started = time.perf_counter()
        variables = os.environ | environment
        self._process = subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL, env=variables)
        self.pid = self._process.pid
        try:
            _wait(f"http://127.0.0.1:{port}{path}", self._process)
        except BaseException:
            self.stop()
            raise
        self.start_seconds = time.perf_counter() - started

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(60)


def plain_server() -> Server:
    """The HTTP server with an application that does nothing."""
    port = free_port()
    return Server("-m", "bench.plain", str(port), port=port, path="/")


def fhir_server(data: Path, mongo: str = "", program: str = PROGRAM) -> Server:
    """The server with one worker on an embedded database; with `mongo` another one on that database, behind the gate.

    Its limits are counted and never reached.
    """
    port = free_port()
    options = ["--port", str(port), "--data", str(data), "--workers", "1", "--auth", "smart" if mongo else "none"]
    options += ["--mongo", mongo] if mongo else []
    return Server("-c", program, "serve", *options, port=port, path="/health/ready", FHIR_RATE_DATA="1000000000")


def mongod_pid(data: Path) -> int:
    return int((data / "db" / "mongod.lock").read_text())


def mongo_url(data: Path) -> str:
    """Where the embedded database answers, as its owner wrote it down."""
    url: str = json.loads((data / "server.lock").read_text())["url"]
    return url


class Client:
    """The load generator's process."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.client"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def run(self, **job: Any) -> dict[str, Any]:
        assert self._process.stdin and self._process.stdout
        print(json.dumps(job), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError("the load generator ended")
        return json.loads(answer)  # type: ignore[no-any-return]

    def stop(self) -> None:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()


@contextmanager
def running(server: Server) -> Iterator[Server]:
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def load_generator() -> Iterator[Client]:
    client = Client()
    try:
        yield client
    finally:
        client.stop()


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with code {process.returncode}")
        try:
            with urlopen(url, timeout=5):
                return
        except (URLError, ConnectionError):
            time.sleep(0.05)
    raise RuntimeError("the server does not answer")
