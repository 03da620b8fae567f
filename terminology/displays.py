"""Whether a display given with a code is one of its names (http://hl7.org/fhir/R4/terminology-service.html#validation)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from terminology.concepts import Designation
from terminology.languages import Languages
from terminology.verdict import Verdict, under

_WRONG = "Display_Name_for__should_be_one_of__instead_of"
_WRONG_SPACE = "Display_Name_WS_for__should_be_one_of__instead_of"


@dataclass(frozen=True, slots=True)
class Names:
    """The names of a concept: its own display, all that it may be called, and the languages asked for."""

    display: str | None
    known: Sequence[Designation]
    languages: Languages

    def fitting(self) -> list[Designation]:
        """Names in a language that was asked for."""
        return [n for n in self.known if self.languages.accept(n.language)]


def check_display(
    given: str, system: str, code: str, names: Names, place: str, lenient: bool, verdict: Verdict
) -> None:
    """Adds what is wrong with the display, if anything is."""
    where, wrong = under(place, "display"), "warning" if lenient else "error"
    about = {"display": given, "system": system, "code": code, "languages": names.languages.text or "--"}
    fitting = names.fitting()
    found = [n for n in fitting if n.value.casefold() == given.casefold()]
    if found:
        _check_current(found, fitting, about, where, verdict)
    elif any(n.is_display and not n.status for n in fitting):
        name = _WRONG_SPACE if _squeeze(given) in {_squeeze(n.value) for n in fitting} else _WRONG
        verdict.add(name, where, severity=wrong, choices=_choices(fitting), **about)
    elif not names.known:
        verdict.add("NO_VALID_DISPLAY_AT_ALL", where, **about)
    elif any(n.value.casefold() == given.casefold() for n in names.known):
        verdict.add("NO_VALID_DISPLAY_FOUND_NONE_FOR_LANG_OK", where, **about)
    else:
        default = names.display or names.known[0].value
        verdict.add("NO_VALID_DISPLAY_FOUND_NONE_FOR_LANG_ERR", where, severity=wrong, default=default, **about)


def _check_current(
    found: list[Designation], fitting: list[Designation], about: dict[str, str], place: str, verdict: Verdict
) -> None:
    if all(n.status for n in found):
        choices = ", ".join(f'"{n.value}"' for n in fitting if n.is_display and not n.status)
        verdict.add("INACTIVE_DISPLAY_FOUND", place, status=found[0].status, choices=choices, **about)


def _squeeze(text: str) -> str:
    return " ".join(text.split()).casefold()


def _choices(names: Iterable[Designation]) -> str:
    shown = [n for n in names if n.is_display and not n.status] or list(names)
    texts = list(dict.fromkeys(f"'{n.value}' ({n.language})" if n.language else f"'{n.value}'" for n in shown))
    if len(texts) == 1:
        return texts[0]
    return f"one of {len(texts)} choices: {', '.join(texts[:-1])} or {texts[-1]}"
