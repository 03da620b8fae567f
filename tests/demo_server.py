"""The server as `make run` starts it, with `--auth smart --demo` and two workers: for browsers and other clients."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.test_serve import SERVE, free_port

STARTED = re.compile(r"all with the password (\S+)")


@dataclass(frozen=True)
class Demo:
    """A running server: where it is, what it printed, and its commands."""

    port: int
    folder: Path
    output: Path

    @property
    def root(self) -> str:
        return f"http://localhost:{self.port}"

    @property
    def base(self) -> str:
        return f"{self.root}/fhir"

    @property
    def auth(self) -> str:
        return f"{self.root}/auth"

    @property
    def printed(self) -> str:
        return self.output.read_text()

    @property
    def password(self) -> str:
        found = STARTED.search(self.printed)
        assert found is not None, self.printed
        return found[1]

    def command(self, *words: str, stdin: str = "", status: int = 0) -> str:
        """What a command of `fhir-server` prints, or complains of, run beside the server."""
        done = subprocess.run(
            [SERVE[0], *words, "--data", str(self.folder)],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == status, done.stderr
        return (done.stderr if status else done.stdout).strip()

    def token(self, scope: str, user: str, client: str = "demo-app", *more: str) -> str:
        return self.command("token", "issue", client, scope, *(("--user", user) if user else ()), "--bare", *more)


@contextmanager
def running(folder: Path, *options: str, port: int = 0, **environment: str) -> Iterator[Demo]:
    """A server with `--auth smart` that answers, stopped at the end."""
    made = Demo(port or free_port(), folder / "data", folder / "output.txt")
    # Passkeys belong to a name, never to a number: the address is localhost.
    place = ("--port", str(made.port), "--data", str(made.folder), "--base-url", made.base)
    command = [*SERVE, "--auth", "smart", *place, *options]
    with made.output.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=os.environ | environment)
    try:
        _await(made, process)
        yield made
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def _await(made: Demo, process: subprocess.Popen[bytes]) -> None:
    ends = time.monotonic() + 300
    while time.monotonic() < ends:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{made.port}/health/ready", timeout=10).close()
            return
        except OSError:
            assert process.poll() is None, made.printed
            time.sleep(0.2)
    raise AssertionError(made.printed)


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """One demo server for the whole test run, on a small hospital."""
    folder = tmp_path_factory.mktemp("demo")
    seed = [SERVE[0], "seed", "--patients", "5", "--data", str(folder / "data")]
    subprocess.run(seed, capture_output=True, timeout=300, check=True)
    with running(folder, "--demo", "--workers", "2") as made:
        yield made
