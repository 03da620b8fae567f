"""The concepts that an include of a value set lists one by one, found by code: such a list may have 70,000 of them."""

from __future__ import annotations

from collections import OrderedDict
from functools import cached_property

from terminology.concepts import Json
from terminology.systems import System
from terminology.wording import Words

# Shorter lists are read anew for each request.
_SHORT = 50
# Lists that are kept, the last used.
_KEPT = 64


class Listed:
    """The entries of an include by the code as its system has it; without the system, by the code as it is given."""

    def __init__(self, row: Json, system: System | None) -> None:
        self.row = row
        self.system = system
        self.by_code: dict[str, Json] = {}
        # Codes that the part of the system which is here lacks: the list is believed.
        self.elsewhere: set[str] = set()
        fragment = system is not None and system.about.get("content") == "fragment"
        for entry in row.get("concept", ()):
            given = entry.get("code", "")
            code = system.locate(given) if system else given
            if code is None and fragment:
                self.elsewhere.add(code := given)
            if code is not None:
                self.by_code.setdefault(code, entry)

    @cached_property
    def _words(self) -> Words:
        """Of the names that the list itself gives; without a system, of the codes too."""
        return Words((code, list(_names(entry, code, self.system))) for code, entry in self.by_code.items())

    def search(self, text: str) -> list[str]:
        """Codes by the names that their system or the list gives them, best first."""
        matched = (self.system.search(text) or ()) if self.system else ()
        found = dict.fromkeys(code for code in matched if code in self.by_code)
        return list(found | dict.fromkeys(self._words.find(text)))


def _names(entry: Json, code: str, system: System | None) -> list[str]:
    own = [entry["display"]] if entry.get("display") else []
    own += [d.get("value", "") for d in entry.get("designation", ())]
    return own if system else [*own, code]


_LISTS: OrderedDict[tuple[int, int], Listed] = OrderedDict()


def listed(row: Json, system: System | None) -> Listed:
    """The index of a list; those of long lists are kept as long as the value set is the same."""
    if len(row.get("concept", ())) <= _SHORT:
        return Listed(row, system)
    key = (id(row), id(system))
    kept = _LISTS.get(key)
    # What is kept holds its row and system, so another row cannot have come by the same id.
    if kept is None:
        kept = _LISTS[key] = Listed(row, system)
        while len(_LISTS) > _KEPT:
            _LISTS.popitem(last=False)
    else:
        _LISTS.move_to_end(key)
    return kept
