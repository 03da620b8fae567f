"""Loading into the database itself, through the same interactions that HTTP requests go through."""

from __future__ import annotations

from dataclasses import replace

from fhir_server.context import Context, Request
from fhir_server.loading.answers import Answer, Message
from fhir_server.routes import handle
from fhir_server.store import Store
from fhir_server.store.find.parameters import Parameters
from search.params import Registry

HEADERS = {"content-type": "application/fhir+json", "prefer": "return=minimal"}


class Direct:
    """The interactions of this process; who can open the database needs no token.

    SearchParameters that come meanwhile, in the files or from elsewhere, count for what is loaded after them.
    """

    def __init__(self, context: Context) -> None:
        self._context = replace(context, config=context.config.model_copy(update={"auth": "none"}))
        assert isinstance(context.store, Store)
        self._parameters = Parameters(context.store, Registry.r4())

    async def send(self, message: Message) -> Answer:
        """The answer of the interaction."""
        registry = await self._parameters.current()
        if registry is not self._context.registry:
            self._context = replace(self._context, registry=registry)
        headers = HEADERS | ({"idempotency-key": message.key} if message.key else {})
        parts = tuple(message.url.split("/")) if message.url else ()
        answer = await handle(Request(message.method, parts, [], headers, message.body), self._context)
        return Answer(answer.status, answer.body, float(answer.headers.get("Retry-After", 0)))
