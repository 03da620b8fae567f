"""Servers asked in turns: the machine's speed changes within minutes, and what is compared has to meet the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import median

from bench.lines import Row

ROUNDS = 9
SECONDS = 1.0  # a turn


class Turns:
    """Some rounds, in each of which every server has its turn, by name."""

    def __init__(self, turns: Mapping[str, Callable[[], Row]], rounds: int) -> None:
        self.rounds = [{name: turn() for name, turn in turns.items()} for _ in range(rounds)]
        failed = [row for rows in self.rounds for row in rows.values() if row.errors]
        if failed:
            raise RuntimeError(f"{failed[0].operation}: {failed[0].errors}")

    def middle(self, name: str, of: Callable[[Row], float]) -> float:
        """The median of a server's rounds."""
        return median(of(rows[name]) for rows in self.rounds)

    def ratio(self, name: str, to: str, of: Callable[[Row], float]) -> float:
        """The median over the rounds of what one server shows beside what the other shows in the same round."""
        return median(of(rows[name]) / of(rows[to]) for rows in self.rounds)
