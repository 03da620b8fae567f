"""Loading into the database itself, through the same interactions that HTTP requests go through."""

from __future__ import annotations

from dataclasses import replace

from fhir_server.context import Context, Request
from fhir_server.loading.answers import Answer, Message
from fhir_server.routes import handle

HEADERS = {"content-type": "application/fhir+json", "prefer": "return=minimal"}


class Direct:
    """The interactions of this process; who can open the database needs no token."""

    def __init__(self, context: Context) -> None:
        self._context = replace(context, config=context.config.model_copy(update={"auth": "none"}))

    async def send(self, message: Message) -> Answer:
        """The answer of the interaction."""
        headers = HEADERS | ({"idempotency-key": message.key} if message.key else {})
        parts = tuple(message.url.split("/")) if message.url else ()
        answer = await handle(Request(message.method, parts, [], headers, message.body), self._context)
        return Answer(answer.status, answer.body, float(answer.headers.get("Retry-After", 0)))
