"""The order of results and the place in it, for paging by keyset: page N costs what page 1 costs.

A resource without the value comes last, ascending or descending; ties are in the order of the ids.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from search.clauses import after
from search.filters import KEY, Filter
from search.params import TYPE_CODES, Parameter
from search.query import Sort
from search.types.number import LEAST, MOST

Stage = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Position:
    """A place between two results: the sort values of the result beside it, and its name.

    `backward` asks for the page before it. `snapshot` is the state of the database the pages are taken from,
    `total` what the first page said, `within` how many contained matches of the result behind it have been shown.
    Without a name it is the beginning.
    """

    values: tuple[Any, ...]
    name: str
    backward: bool = False
    snapshot: str = ""
    total: int | None = None
    within: int = 0

    def payload(self) -> dict[str, Any]:
        """As JSON, for a sealed page link."""
        return {
            "k": list(self.values),
            "i": self.name,
            "b": self.backward,
            "t": self.snapshot,
            "n": self.total,
            "w": self.within,
        }

    @staticmethod
    def of(payload: Mapping[str, Any]) -> Position:
        return Position(
            tuple(payload["k"]), payload["i"], payload["b"], payload["t"], payload["n"], payload.get("w", 0)
        )


def keys(sort: Sequence[Sort]) -> dict[str, Any]:
    """The `$set` of the sort values k0, k1 ...; null where a resource has none."""
    return {f"k{n}": _value(s, n) for n, s in enumerate(sort)}


def _value(sort: Sort, n: int) -> Any:
    if sort.parameter is None:
        return {"_id": "$_id", "_lastUpdated": {"$toLong": "$at"}}.get(sort.code)
    best = "$max" if sort.descending else "$min"
    source = f"$r{n}" if sort.hops else {"$ifNull": ["$s", []]}
    return {"$ifNull": [*({best: texts} for texts in _texts(sort.parameter, source)), None]}


def _texts(parameter: Parameter, source: Any) -> list[Any]:
    """The entries of a parameter without their key, the first kind there is: of a Period its beginning counts, of a
    quantity the form in base units before the one as given."""
    if parameter.type == "date":
        periods = bool(parameter.value_types & {"Period", "Timing"})
        starts = [_slice(parameter, source, "(", ")", KEY + 1, 9)] if periods else []
        return [{"$concatArrays": [*starts, _slice(parameter, source, "-", "~", KEY, 9)]}]
    if parameter.type == "quantity":
        return [_slice(parameter, source, "u", "v", KEY, -1), _slice(parameter, source, "#", "$", KEY, -1)]
    if parameter.type == "number":  # a Range has no place among numbers
        return [_slice(parameter, source, LEAST, MOST, KEY, -1)]
    texts = _slice(parameter, source, " ", "\U0010ffff", KEY, -1)
    return [_ended(texts) if parameter.type in PARTED else texts]


# Types whose entries are `code|system` or `url|version`.
PARTED = frozenset(("token", "reference"))


def _ended(texts: Any) -> Any:
    """The texts with an end of their first part that is below every character: 1 comes before 10."""
    end = {"$replaceOne": {"input": "$$t", "find": "|", "replacement": "\x01"}}
    return {"$map": {"input": texts, "as": "t", "in": end}}


def _slice(parameter: Parameter, source: Any, low: str, high: str, start: int, length: int) -> Any:
    ranges = [{"$and": [{"$gte": ["$$e", k + low]}, {"$lt": ["$$e", k + high]}]} for k in parameter.keys]
    chosen = {"$filter": {"input": source, "as": "e", "cond": {"$or": ranges}}}
    return {"$map": {"input": chosen, "as": "e", "in": {"$substrBytes": ["$$e", start, length]}}}


def joins(sort: Sequence[Sort], seen: Mapping[str, Filter]) -> list[Stage]:
    """The entries of what each linked sort key leads to, as r0, r1 ...; `seen` is what may be looked at of a type."""
    found: list[Stage] = []
    for n, key in enumerate(sort):
        for at, hop in enumerate(key.hops):
            source: Any = f"$r{n}" if at else {"$ifNull": ["$s", []]}
            named = {"$concatArrays": [_names(source, keys, target) for keys, target in hop]}
            visible = {"$or": [seen[target] for _, target in hop]}
            looked = {"from": "resources", "localField": f"t{n}", "foreignField": "_id", "as": f"r{n}"}
            found += [
                {"$set": {f"t{n}": named}},
                {"$lookup": looked | {"pipeline": [{"$match": visible}, {"$project": {"s": 1}}]}},
                {"$set": {f"r{n}": {"$reduce": {"input": f"$r{n}.s", "initialValue": [], "in": _BOTH}}}},
            ]
    return found


_BOTH = {"$concatArrays": ["$$value", {"$ifNull": ["$$this", []]}]}


def _names(source: Any, keys: Sequence[str], target: str) -> Any:
    """The names of the resources of a type that entries refer to."""
    # Compared as a whole: the head of another entry can end within a character.
    heads = [key + TYPE_CODES[target] for key in keys]
    ranges = [{"$and": [{"$gte": ["$$e", head]}, {"$lt": ["$$e", after(head)]}]} for head in heads]
    chosen = {"$filter": {"input": source, "as": "e", "cond": {"$or": ranges}}}
    name = {"$concat": [f"{target}/", {"$substrBytes": ["$$e", KEY + 2, -1]}]}
    return {"$map": {"input": chosen, "as": "e", "in": name}}


def order(sort: Sequence[Sort], backward: bool = False) -> dict[str, int]:
    """The `$sort`: missing values last, then the values, then the name."""
    way = -1 if backward else 1
    found: dict[str, int] = {}
    for n, key in enumerate(sort):
        found[f"m{n}"] = way
        found[f"k{n}"] = -way if key.descending else way
    # The index on the instant of the last update goes on with the name in the same direction.
    falls = bool(sort) and sort[-1].code == "_lastUpdated" and sort[-1].descending
    found["_id"] = -way if falls else way
    return found


def flags(sort: Sequence[Sort]) -> dict[str, Any]:
    """Whether each value is missing, so that those come last in either direction."""
    return {f"m{n}": {"$eq": [f"$k{n}", None]} for n in range(len(sort))}


def beyond(sort: Sequence[Sort], position: Position) -> Filter:
    """The results after (or before) a position in the order."""
    fields = order(sort, position.backward)
    values = _fields(position)
    rows = []
    names = list(fields)
    for n, name in enumerate(names):
        compare = "$gt" if fields[name] > 0 else "$lt"
        rows.append({**{before: values[before] for before in names[:n]}, name: {compare: values[name]}})
    return rows[0] if len(rows) == 1 else {"$or": rows}


def _fields(position: Position) -> dict[str, Any]:
    found: dict[str, Any] = {"_id": position.name}
    for n, value in enumerate(position.values):
        found |= {f"k{n}": value, f"m{n}": value is None}
    return found


def stages(
    filter: Filter, sort: Sequence[Sort], position: Position | None, limit: int, seen: Mapping[str, Filter]
) -> list[Stage]:
    """The pipeline of a sorted page: only the best `limit` are kept while sorting."""
    found: list[Stage] = [{"$match": filter}, *joins(sort, seen), {"$set": keys(sort)}, {"$set": flags(sort)}]
    linked = [f"{letter}{n}" for n, key in enumerate(sort) if key.hops for letter in "tr"]
    if linked:
        found.append({"$unset": linked})
    if position is not None:
        found.append({"$match": beyond(sort, position)})
    return [*found, {"$sort": order(sort, position.backward if position else False)}, {"$limit": limit}]


def first(sort: Sequence[Sort], limit: int, most: int) -> list[Stage]:
    """What follows `$match` for a first page that also tells how many match, up to `most`.

    Each document carries the number as `n`, one of them the names of the page in order with their sort values
    (`names_of`). Only names are sorted and counted, so bodies are read for the page alone.
    """
    found: list[Stage] = [{"$limit": most}]
    if sort:
        found += [{"$set": keys(sort)}, {"$set": flags(sort)}]
    name = {"_id": "$_id"} | {f"k{n}": f"$k{n}" for n in range(len(sort))}
    return [
        *found,
        {"$sort": order(sort)},
        {"$group": {"_id": None, "names": {"$push": name}}},
        {"$project": {"n": {"$size": "$names"}, "names": {"$slice": ["$names", limit]}}},
        {"$lookup": {"from": "resources", "localField": "names._id", "foreignField": "_id", "as": "row"}},
        {"$unwind": {"path": "$row", "includeArrayIndex": "i"}},
        {"$replaceWith": {"$mergeObjects": ["$row", {"n": "$n"}, _NAMES]}},
    ]


_NAMES = {"$cond": [{"$eq": ["$i", 0]}, {"names": "$names"}, {}]}


def names_of(row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The names of the page with their sort values, in order; empty for all rows but one."""
    found: list[Mapping[str, Any]] = row.get("names", [])
    return found
