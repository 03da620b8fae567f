"""What a terminology operation was asked: its Parameters resource, read once (http://hl7.org/fhir/R4/parameters.html)."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from profiles.outcome import FhirError
from terminology.concepts import Json, extension_value, value_of
from terminology.languages import ANY, Languages
from terminology.languages import parse as parse_languages
from terminology.messages import refuse
from terminology.shape import check_values
from terminology.versions import split_canonical

_VERSION_RULES = {
    "system-version": "default",
    "default-system-version": "default",
    "check-system-version": "check",
    "force-system-version": "force",
    "default-valueset-version": "default",
    "check-valueset-version": "check",
    "force-valueset-version": "force",
}
_RULE_NAMES = {"default": "system-version", "check": "check-system-version", "force": "force-system-version"}
_EXPANSION_PARAMETER = (
    "http://hl7.org/fhir/StructureDefinition/valueset-expansion-parameter",
    "http://hl7.org/fhir/tools/StructureDefinition/valueset-expansion-parameter",
)


class Parameters:
    """The parameters of a request by name; a query string is made into the same."""

    def __init__(self, rows: Iterable[Json]) -> None:
        self.rows = list(rows)
        self._named: dict[str, list[Any]] = {}
        for row in self.rows:
            self._named.setdefault(row.get("name", ""), []).append(_value(row))

    @property
    def names(self) -> Iterable[str]:
        """The names that are given."""
        return self._named.keys()

    def all(self, name: str) -> list[Any]:
        """Every value of the name."""
        return self._named.get(name, [])

    def first(self, *names: str) -> Any:
        """The first value of the first name that has one."""
        return next((values[0] for name in names if (values := self._named.get(name))), None)

    def text(self, *names: str) -> str | None:
        """The first value as a text; a complex value is refused."""
        value = self.first(*names)
        if value is None:
            return None
        if isinstance(value, (dict, list)):
            raise FhirError("invalid", f"The parameter '{names[0]}' must be a simple value")
        return str(value).lower() if isinstance(value, bool) else str(value)

    def flag(self, name: str) -> bool | None:
        """The value of a boolean parameter, however it was written."""
        text = self.text(name)
        if text is None:
            return None
        if text not in ("true", "false"):
            raise FhirError("invalid", f"The parameter '{name}' must be true or false, not '{text}'")
        return text == "true"

    def number(self, name: str) -> int | None:
        """The value of an integer parameter; negative numbers are refused."""
        text = self.text(name)
        if text is None:
            return None
        if not text.isascii() or not text.isdigit() or len(text) > 9:
            raise FhirError("invalid", f"The parameter '{name}' must be a whole number of 0 or more, not '{text[:40]}'")
        return int(text)

    def complex(self, name: str) -> Json | None:
        """The value of a parameter that is an element or a resource."""
        value = self.first(name)
        if value is not None and not isinstance(value, dict):
            raise FhirError("invalid", f"The parameter '{name}' must be an element or a resource, not '{value}'")
        return value

    def resources(self, *names: str) -> list[Json]:
        """Every resource given under one of the names."""
        return [v for name in names for v in self.all(name) if isinstance(v, dict) and "resourceType" in v]

    def parts(self, name: str) -> list[Parameters]:
        """The parts of every parameter of the name."""
        return [Parameters(row.get("part", ())) for row in self.rows if row.get("name") == name]

    def with_defaults(self, others: Parameters) -> Parameters:
        """These parameters, and those of the others whose names are not given here."""
        return Parameters([*self.rows, *(row for row in others.rows if row.get("name") not in self._named)])


def _value(row: Json) -> Any:
    return row["resource"] if "resource" in row else value_of(row)[1]


def of_resource(resource: Json) -> Parameters:
    """The parameters of a POSTed body."""
    if resource.get("resourceType") != "Parameters":
        raise FhirError("invalid", f"The body must be a Parameters resource, not {resource.get('resourceType')!r}")
    rows = resource.get("parameter", [])
    if not isinstance(rows, list):
        raise FhirError("structure", "Parameters.parameter must be a list", "Parameters.parameter")
    check_values(rows)
    return Parameters(rows)


def of_query(pairs: Iterable[tuple[str, str]]) -> Parameters:
    """The parameters of a GET; a Coding may be written `system|code`."""
    return Parameters({"name": name, "valueString": value} for name, value in pairs)


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule on the version of a system: its default, what it must be, or what it is made to be."""

    mode: str
    url: str
    version: str

    def parameter(self) -> Json:
        """The rule as an expansion reports it."""
        return {"name": _RULE_NAMES[self.mode], "valueUri": f"{self.url}|{self.version}"}


@dataclass(frozen=True, slots=True)
class Options:
    """The parameters that shape an answer."""

    languages: Languages = ANY
    header: Languages = ANY
    active_only: bool | None = None
    exclude_nested: bool | None = None
    include_designations: bool | None = None
    include_definition: bool | None = None
    exclude_not_for_ui: bool | None = None
    exclude_post_coordinated: bool | None = None
    limited: bool | None = None
    incomplete_ok: bool | None = None
    lenient_display: bool = False
    membership_only: bool = False
    abstract_ok: bool = True
    infer_system: bool = False
    count: int | None = None
    offset: int | None = None
    filter: str | None = None
    properties: tuple[str, ...] = ()
    designations: tuple[str, ...] = ()
    supplements: tuple[str, ...] = ()
    excluded_systems: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()
    used_rules: dict[Rule, None] = field(default_factory=dict)

    @property
    def working(self) -> Languages:
        """The languages asked for in the parameters, else in the header."""
        return self.languages or self.header

    @property
    def decisive(self) -> tuple[Hashable, ...]:
        """What decides whether a code is in a value set, beside the definitions."""
        return self.rules, self.supplements, self.active_only, self.abstract_ok, self.membership_only

    def version_for(self, url: str, version: str | None) -> str | None:
        """The version to use where a value set names `version`: forced, else named, else default, else checked."""
        if not self.rules:
            return version
        rules = [r for r in self.rules if r.url == url]
        forced = _only([r for r in rules if r.mode == "force"], "SYSTEM_VERSION_MULTIPLE_OVERRIDE")
        if forced:
            self.used_rules[forced] = None
            return forced.version
        if version:
            return version
        default = _only([r for r in rules if r.mode == "default"], "SYSTEM_VERSION_MULTIPLE_DEFAULT")
        chosen = default or next((r for r in rules if r.mode == "check"), None)
        if chosen is None:
            return None
        self.used_rules[chosen] = None
        return chosen.version

    def checks(self, url: str) -> list[Rule]:
        """The versions a system must have."""
        return [r for r in self.rules if r.mode == "check" and r.url == url]

    def seeing(self, value_set: Json) -> Options:
        """These options, completed by what the value set itself asks for."""
        options = self
        for extension in value_set.get("compose", {}).get("extension", ()):
            if extension.get("url") in _EXPANSION_PARAMETER:
                options = options._with(extension.get("extension", ()))
        if not options.working and value_set.get("language"):
            options = replace(options, header=parse_languages(value_set["language"]))
        return options

    def _with(self, parts: Sequence[Json]) -> Options:
        name, value = extension_value(parts, "name"), extension_value(parts, "value")
        if name == "displayLanguage" and not self.languages:
            return replace(self, languages=parse_languages(str(value)))
        if name in _VERSION_RULES:
            rule = _rule(str(name), str(value))
            known = any(r.url == rule.url and r.mode == rule.mode for r in self.rules) if rule else True
            return self if known or rule is None else replace(self, rules=(*self.rules, rule))
        own = _SEEN.get(str(name))
        return replace(self, **{own: value}) if own and getattr(self, own) in (None, ()) else self


_SEEN = {
    "activeOnly": "active_only",
    "excludeNested": "exclude_nested",
    "includeDesignations": "include_designations",
    "excludeNotForUI": "exclude_not_for_ui",
}


def _only(rules: list[Rule], message: str) -> Rule | None:
    different = sorted({r.version for r in rules})
    if len(different) > 1:
        raise refuse(message, system=rules[0].url, first=different[0], second=different[1])
    return rules[0] if rules else None


def _rule(name: str, canonical: str) -> Rule | None:
    url, version = split_canonical(canonical)
    if version is None:
        raise FhirError(
            "invalid", f"The parameter '{name}' must be a system and its version (system|version), not '{canonical}'"
        )
    return Rule(_VERSION_RULES[name], url, version)


def options_of(parameters: Parameters, header: str | None = None) -> Options:
    """The options of a request; `header` is its Accept-Language."""
    given = {row[0]: row[1](parameters, name) for name in parameters.names if (row := _OPTIONS.get(name))}
    if header and header.strip() != "*":
        given["header"] = parse_languages(header)
    if not _VERSION_RULES.keys().isdisjoint(parameters.names):
        named = [(row.get("name", ""), _value(row)) for row in parameters.rows]
        rules = [_rule(name, str(value)) for name, value in named if name in _VERSION_RULES]
        given["rules"] = tuple(dict.fromkeys(r for r in rules if r))
    return Options(**given)


def _texts(parameters: Parameters, name: str) -> tuple[str, ...]:
    return tuple(str(v) for v in parameters.all(name) if v is not None)


def _flag(parameters: Parameters, name: str) -> bool:
    return bool(parameters.flag(name))


def _lenient(parameters: Parameters, name: str) -> bool:
    """Either of two names says so, in any order."""
    mode = parameters.text("mode") == "lenient-display-validation"
    return mode or bool(parameters.flag("lenient-display-validation"))


def _infers(parameters: Parameters, name: str) -> bool:
    return bool(parameters.flag("inferSystem") or parameters.flag("implySystem"))


# Parameter -> the option that it sets, and how it is read.
_OPTIONS: dict[str, tuple[str, Callable[[Parameters, str], Any]]] = {
    "displayLanguage": ("languages", lambda p, name: parse_languages(p.text(name))),
    "activeOnly": ("active_only", Parameters.flag),
    "excludeNested": ("exclude_nested", Parameters.flag),
    "includeDesignations": ("include_designations", Parameters.flag),
    "includeDefinition": ("include_definition", Parameters.flag),
    "excludeNotForUI": ("exclude_not_for_ui", Parameters.flag),
    "excludePostCoordinated": ("exclude_post_coordinated", Parameters.flag),
    "limitedExpansion": ("limited", Parameters.flag),
    "incomplete-ok": ("incomplete_ok", Parameters.flag),
    "mode": ("lenient_display", _lenient),
    "lenient-display-validation": ("lenient_display", _lenient),
    "valueset-membership-only": ("membership_only", _flag),
    "abstract": ("abstract_ok", lambda p, name: p.flag(name) is not False),
    "implySystem": ("infer_system", _infers),
    "inferSystem": ("infer_system", _infers),
    "count": ("count", Parameters.number),
    "offset": ("offset", Parameters.number),
    "filter": ("filter", lambda p, name: p.text(name) or None),
    "property": ("properties", _texts),
    "designation": ("designations", _texts),
    "useSupplement": ("supplements", _texts),
    "exclude-system": ("excluded_systems", _texts),
}


def answer(*rows: Json | None) -> Json:
    """A Parameters resource."""
    return {"resourceType": "Parameters", "parameter": [row for row in rows if row is not None]}


def parameter(name: str, value: Any, kind: str = "String") -> Json | None:
    """One parameter, None for no value; resources and parts go under their own keys."""
    if value is None:
        return None
    if isinstance(value, bool):
        return {"name": name, "valueBoolean": value}
    return {
        "name": name,
        f"value{kind}": float(value) if kind == "Decimal" and not isinstance(value, Decimal) else value,
    }
