"""The rules of a GraphDefinition on the compartments that a link joins (R4 valueset-graph-compartment-rule.html)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from fhir_server.context import Context, Resource
from fhir_server.ids import local_name
from profiles.fhirpath import Environment, compile
from search.params import Registry
from search.walks import at_route


def broken_rules(
    rules: Iterable[Resource], source: Resource, target: Resource, context: Context
) -> Iterator[tuple[int, Resource]]:
    """The requirements that a target breaks, with their numbers; none, where a condition does not hold."""
    rows = list(enumerate(rules))
    if all(_holds(rule, source, target, context) for _, rule in rows if rule["use"] == "condition"):
        for number, rule in rows:
            if rule["use"] == "requirement" and not _holds(rule, source, target, context):
                yield number, rule


def _holds(rule: Resource, source: Resource, target: Resource, context: Context) -> bool:
    if rule["rule"] == "custom":
        env = Environment(now=context.now())
        found = compile(rule.get("expression", "true"), target["resourceType"])(target, env)
        return [node.value for node in found] == [True]
    texts = [references(rule["code"], resource, context.registry) for resource in (source, target)]
    if rule["rule"] == "identical":
        return texts[0] == texts[1]
    base = context.config.base
    names = [{local_name(text, base) or text for text in found} for found in texts]
    return RULES[rule["rule"]](*names)


RULES: dict[str, Callable[[set[str], set[str]], bool]] = {
    "matching": lambda source, target: not source.isdisjoint(target),
    "different": set.isdisjoint,
}


def references(compartment: str, resource: Resource, registry: Registry) -> set[str]:
    """The compartments of a kind that a resource is in, as its references have them."""
    kind = resource["resourceType"]
    own = {f"{kind}/{resource.get('id')}"} if kind == compartment else set()
    rows = registry.compartment(compartment, kind)
    routes = [route for row in rows for atom in row.atoms for route in atom.place.routes if route.type == "Reference"]
    texts = {str(value.get("reference", "")) for route in routes for value in at_route(resource, route)}
    return own | {text for text in texts if f"{compartment}/" in text}
