"""What a validation has found so far, and the Parameters it becomes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from profiles.outcome import Issue, operation_outcome
from terminology.concepts import Json
from terminology.messages import issue, told
from terminology.request import answer, parameter


def under(place: str, name: str) -> str:
    """A place below another; at the root the name alone."""
    return f"{place}.{name}" if place else name


@dataclass(frozen=True, slots=True)
class Noted:
    """A code that was found: as it was given, its status, whether it is inactive, and how its system writes it."""

    code: str
    status: str | None = None
    inactive: bool = False
    normal: str | None = None


@dataclass(slots=True)
class Verdict:
    """Issues, the texts for `message`, unknown systems, and the codes that were found by their places."""

    issues: list[Issue] = field(default_factory=list)
    texts: dict[str, None] = field(default_factory=dict)
    unknown: dict[str, None] = field(default_factory=dict)
    noted: dict[str, Noted] = field(default_factory=dict)
    implied: str | None = None

    def add(self, name: str, place: str = "", *, severity: str | None = None, **words: str | None) -> None:
        """Adds an issue once; errors, and what is always told, go into `message` too."""
        found = issue(name, place, severity=severity, **words)
        if found not in self.issues:
            self.issues.append(found)
        if found.severity == "error" or told(name):
            self.texts[found.text] = None

    def merge(self, other: Verdict) -> None:
        """Takes over what another check found."""
        self.issues += [i for i in other.issues if i not in self.issues]
        self.texts |= other.texts
        self.unknown |= other.unknown
        self.noted |= other.noted

    @property
    def failed(self) -> bool:
        """Whether an error was found."""
        return any(i.severity == "error" for i in self.issues)

    def parameters(self, result: bool, rows: Sequence[Json | None]) -> Json:
        """The answer of $validate-code."""
        issues = {"name": "issues", "resource": operation_outcome(self.issues)} if self.issues else None
        message = "; ".join(sorted(self.texts)) or None
        return answer(parameter("result", result), *rows, parameter("message", message), issues)
