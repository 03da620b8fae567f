"""`fhir-server serve`: the server as a process, or several that share a port."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import sys
from contextlib import AsyncExitStack
from types import FrameType

import typer
import uvicorn
from uvicorn.supervisors import Multiprocess

from fhir_server.app import App, build_app
from fhir_server.auth.wiring import open_accounts, open_realm
from fhir_server.config import Config
from fhir_server.http.protocol import uvicorn_settings
from fhir_server.loading.demo import load_demo
from fhir_server.opening import embedded_url, open_context
from fhir_server.store import Store
from profiles.outcome import FhirError

ANYWHERE = """
FHIR R4 server at {base}

Try it:
  curl {base}/metadata
  curl -X POST {base}/Patient -H 'Content-Type: application/fhir+json' \\
       -d '{{"resourceType":"Patient","name":[{{"family":"Shaw","given":["Amy"]}}],"birthDate":"1987-02-20"}}'
  curl '{base}/Patient?name=shaw&_pretty=true'
  curl '{base}/Patient/_history?_count=3&_pretty=true'
"""
IN_THE_HOSPITAL = """
In the demo hospital:
  curl '{base}/Patient/p00001/$everything?_count=5&_pretty=true'
  curl '{base}/Condition?code:below=http://hl7.org/fhir/sid/icd-10-cm|E11&_include=Condition:subject&_pretty=true'
  curl '{base}/Observation?patient.gender=female&component-code-value-quantity=8480-6$gt140&_sort=-date&_pretty=true'
  curl '{base}/ValueSet/$expand?url=http://hl7.org/fhir/sid/icd-10-cm?fhir_vs&filter=type+2+diab&count=5&_pretty=true'
"""
BEHIND_A_LOGIN = """
FHIR R4 server at {base}, behind SMART on FHIR: {base}/.well-known/smart-configuration

  {auth}/account   your account
  {auth}/apps      open an app for a patient, as an EHR does
"""
LOGGED_IN = """
Try it:
  export TOKEN=$({program} token issue demo-app 'user/*.rs' --user doctor --bare{place})
  curl -H "Authorization: Bearer $TOKEN" '{base}/Patient?_count=3&_pretty=true'
"""
OPEN = """
Everybody on this machine may do everything. With logins, accounts and an app: --auth smart (make run AUTH=smart).
"""
THE_END = """
Stop it with Ctrl-C.
"""


def greeting(config: Config) -> str:
    """What to try next, in lines that work when they are pasted."""
    open_to_all = config.auth == "none"
    parts = [ANYWHERE, IN_THE_HOSPITAL, OPEN] if open_to_all else [BEHIND_A_LOGIN, LOGGED_IN, ""]
    usual = config.mongo or config.data == Config.model_fields["data"].default
    place = "" if usual else f" --data {config.data}"
    text = "".join([parts[0], parts[1] if config.demo else "", parts[2], THE_END])
    return text.format(base=config.base, auth=config.auth_url, place=place, program=sys.argv[0])


class Server(uvicorn.Server):
    """uvicorn, which says that it is not ready any more before it stops listening."""

    def __init__(self, config: uvicorn.Config, application: App) -> None:
        super().__init__(config)
        self._application = application

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        await super().startup(sockets)  # type: ignore[arg-type]
        if self.started and not self.should_exit:
            typer.echo(greeting(self._application.config))

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        drain = self._application.config.drain_seconds
        if self._application.stopping or not drain or sig == signal.SIGINT:
            super().handle_exit(sig, frame)
            return
        self._application.stopping = True
        asyncio.get_running_loop().call_later(drain, super().handle_exit, sig, frame)


def run(config: Config) -> None:
    """Serve until a signal ends it; exit code 1 with one sentence when it cannot start."""
    try:
        _run_workers(config) if config.workers > 1 else _run_one(config)
    except FhirError as error:
        typer.echo(error.text, err=True)
        sys.exit(1)


def _run_one(config: Config) -> None:
    sock = listening(config)
    config = config.model_copy(update={"port": sock.getsockname()[1]})
    application = build_app(config)
    settings = uvicorn.Config(application, host=config.host, port=config.port, **uvicorn_settings(config))
    server = Server(settings, application)
    server.run(sockets=[sock])
    if not server.started:
        sys.exit(3)


def listening(config: Config) -> socket.socket:
    """The socket of the server, taken before a database is started; FhirError with one sentence when it cannot be."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    sock = socket.socket(family)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((config.host, config.port))
    except OSError as error:
        sock.close()
        reason = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used: {error.strerror}"
        raise FhirError(
            "conflict", f"Port {config.port} of {config.host} {reason}; choose another with --host and --port."
        ) from None
    sock.set_inheritable(True)
    return sock


def _run_workers(config: Config) -> None:
    """The parent holds the port and the embedded database, the workers share them."""
    sock = listening(config)
    config = config.model_copy(update={"port": sock.getsockname()[1]})
    loop = asyncio.new_event_loop()
    stack = AsyncExitStack()
    try:
        url = config.mongo or loop.run_until_complete(embedded_url(config, stack))
        whole = config.model_copy(update={"mongo": url, "demo": False})
        if config.demo:
            loop.run_until_complete(_demo(whole))
        _export(whole)
        settings = uvicorn.Config(
            "fhir_server.app:from_environment",
            factory=True,
            host=config.host,
            port=config.port,
            workers=config.workers,
            **uvicorn_settings(config),
        )
        typer.echo(greeting(config))
        Multiprocess(settings, [sock]).run()
    finally:
        loop.run_until_complete(stack.aclose())
        loop.close()


async def _demo(config: Config) -> None:
    async with AsyncExitStack() as stack:
        context = await open_context(config, stack)
        await load_demo(context)
        if config.auth == "smart" and isinstance(context.store, Store):
            await open_accounts(await open_realm(config, context.store, context), context.store, demo=True)


def _export(config: Config) -> None:
    """Hand the configuration to the workers."""
    for name, value in config.model_dump(mode="json").items():
        text = value if isinstance(value, str) else _json(value)
        if text:
            os.environ[f"FHIR_{name.upper()}"] = text


def _json(value: object) -> str:
    from profiles.json import encode

    return encode(value).decode()
