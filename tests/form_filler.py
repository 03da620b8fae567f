"""A person at a browser without a window: fills in the login pages of a running server, by HTTP alone."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, field
from typing import Any

import httpx2


@dataclass
class Person:
    """Who logs in, with the cookies of their browser."""

    username: str
    password: str
    http: httpx2.Client = field(default_factory=lambda: httpx2.Client(timeout=60))

    def allow(self, url: str, home: str) -> str:
        """Open an authorization request, log in, choose the first patient, allow all; the address back at `home`."""
        answer = self._follow(self.http.get(url), home)
        for _ in range(6):
            if isinstance(answer, str):
                return answer
            answer = self._follow(self._fill(answer), home)
        raise AssertionError("The login does not end.")

    def _follow(self, answer: Any, home: str) -> Any:
        while "location" in answer.headers:
            target = answer.headers["location"]
            if target.startswith(home):
                return str(target)
            answer = self.http.get(target)
        assert answer.status_code == 200, answer.text
        return answer

    def _fill(self, answer: Any) -> Any:
        text = answer.text
        hidden = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', text))
        fields: dict[str, Any] = {name: hidden[name] for name in ("csrf", "flow", "what") if name in hidden}
        root = str(answer.url.copy_with(path="/auth", query=None))
        if 'name="password"' in text:
            return self.http.post(
                f"{root}/login", data={**fields, "username": self.username, "password": self.password}
            )
        if 'name="what"' in text:
            first = re.findall(r'name="id" value="([^"]+)"', text)[0]
            return self.http.post(f"{root}/pick", data={**fields, "id": first})
        offered = [html.unescape(each) for each in re.findall(r'name="scope" value="([^"]*)"', text)]
        return self.http.post(f"{root}/consent", data={**fields, "action": "allow", "scope": offered})

    def close(self) -> None:
        self.http.close()
