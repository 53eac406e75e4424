"""Placeholders in parameters, filled in. Contract: flows_deployments.md, section 5.1. Pure.

An object with the key `__prefect_kind` is a placeholder for a value: JSON text, a rendered template, a variable.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

KIND = "__prefect_kind"
MAX_RANGE = 100
MAX_LOOPS = 10
MAX_NESTING = 2
MAX_TEMPLATE = 10_000
MAX_OUTPUT = 1_000_000
MAX_DEPTH = 200

Variables = Callable[[], Mapping[str, Any]]
REMOVED = object()


class HydrationError(ValueError):
    """A placeholder that cannot be filled; the text says why, and for a template `line` says where."""

    def __init__(self, text: str, line: int = 0) -> None:
        super().__init__(text)
        self.line = line


def hydrate(parameters: dict[str, Any], variables: Variables, context: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """`parameters` with every placeholder filled. `variables` loads them all, and is called only when one is named.

    `context` is what templates may speak of.
    """
    if not placeholders_in(parameters):
        return parameters
    value = Hydrator(variables, context).value(parameters, 0)
    return value if isinstance(value, dict) else {}


def placeholders_in(value: Any) -> bool:
    if isinstance(value, dict):
        return KIND in value or any(placeholders_in(item) for item in value.values())
    return isinstance(value, list) and any(placeholders_in(item) for item in value)


class Hydrator:
    def __init__(self, variables: Variables, context: Mapping[str, Any] | None = None) -> None:
        self.load = variables
        self.context = context or {}
        self.loaded: Mapping[str, Any] | None = None

    def value(self, value: Any, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise HydrationError("Placeholders are nested too deeply.")
        if isinstance(value, dict):
            if KIND in value:
                return self.placeholder(value, depth + 1)
            filled = {key: self.value(item, depth + 1) for key, item in value.items()}
            return {key: item for key, item in filled.items() if item is not REMOVED}
        if isinstance(value, list):
            return [item for item in (self.value(item, depth + 1) for item in value) if item is not REMOVED]
        return value

    def placeholder(self, item: dict[str, Any], depth: int) -> Any:
        match item[KIND]:
            case None:
                return self.value({key: value for key, value in item.items() if key != KIND}, depth)
            case "none":
                if "value" not in item:
                    raise HydrationError("Missing 'value' key in __prefect object")
                return self.value(item["value"], depth)
            case "json":
                return self.json(item, depth)
            case "jinja":
                if "template" not in item:
                    raise HydrationError("Missing 'template' key in __prefect object")
                return rendered(self.nested(item["template"], depth), self.context)
            case "workspace_variable":
                return self.variable(item, depth)
        return item.get("value")

    def nested(self, value: Any, depth: int) -> Any:
        return self.value(value, depth) if isinstance(value, dict) else value

    def json(self, item: dict[str, Any], depth: int) -> Any:
        if "value" not in item:
            return REMOVED
        text = self.nested(item["value"], depth)
        if not isinstance(text, str):
            return text
        try:
            return json.loads(text, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise HydrationError(f"Invalid JSON: {error}") from None

    def variable(self, item: dict[str, Any], depth: int) -> Any:
        if "variable_name" not in item:
            return REMOVED
        name = self.nested(item["variable_name"], depth)
        if self.loaded is None:
            self.loaded = self.load()
        if not isinstance(name, str) or name not in self.loaded:
            raise HydrationError(f"Variable '{name}' not found in workspace.")
        return self.loaded[name]


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def rendered(template: Any, context: Mapping[str, Any]) -> Any:
    """The text of a template, rendered in a sandbox that bounds its time and size."""
    if not isinstance(template, str) or not re.search(r"\{\{|\{%", template):
        return template
    from jinja2.exceptions import SecurityError, TemplateError

    if len(template) > MAX_TEMPLATE:
        raise HydrationError("Invalid jinja: the template is too long")
    try:
        environment = sandbox()
        check_loops(environment, template)
        parts: list[str] = []
        size = 0
        for part in environment.from_string(template).generate(context):
            parts.append(part)
            size += len(part)
            if size > MAX_OUTPUT:
                raise HydrationError("Invalid jinja: the output is too long")
        return "".join(parts)
    except (TemplateError, SecurityError) as error:
        raise HydrationError(f"Invalid jinja: {error}") from None
    except HydrationError:
        raise
    except Exception as error:
        raise HydrationError(f"Invalid jinja: {type(error).__name__}: {error}"[:500]) from None


def check_template(template: Any) -> None:
    """Raise HydrationError unless the text is a template that `rendered` would take."""
    if not isinstance(template, str):
        raise HydrationError("Missing 'template' key in __prefect object")
    from jinja2.exceptions import TemplateError

    if len(template) > MAX_TEMPLATE:
        raise HydrationError("Invalid jinja: the template is too long")
    try:
        check_loops(sandbox(), template)
    except TemplateError as error:
        raise HydrationError(f"Invalid jinja: {error}", getattr(error, "lineno", 0)) from None


@lru_cache(maxsize=1)
def sandbox() -> Any:
    """A Jinja environment in which nothing can be changed, reached or repeated without bound."""
    from jinja2 import ChainableUndefined
    from jinja2.exceptions import SecurityError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Sandbox(ImmutableSandboxedEnvironment):
        intercepted_binops = frozenset({"*", "**", "%"})

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            if operator == "**":
                raise SecurityError("powers are not allowed")
            numbers = isinstance(left, int | float) and isinstance(right, int | float)
            if not numbers or max(abs(left), abs(right)) > 1e12:
                raise SecurityError(f"{operator} takes two numbers of moderate size")
            return super().call_binop(context, operator, left, right)

    environment = Sandbox(undefined=ChainableUndefined, autoescape=False)
    environment.globals = {"range": bounded_range}
    for name in ("center", "format", "indent", "filesizeformat", "wordwrap", "pprint", "xmlattr", "random"):
        environment.filters.pop(name, None)
    return environment


def bounded_range(*bounds: int) -> range:
    numbers = range(*bounds)
    if len(numbers) > MAX_RANGE:
        raise OverflowError(f"range is limited to {MAX_RANGE}")
    return numbers


def check_loops(environment: Any, template: str) -> None:
    """Refuse templates with more loops, or deeper ones, than any real one has."""
    from jinja2 import nodes

    tree = environment.parse(template)
    if len(list(tree.find_all(nodes.For))) > MAX_LOOPS:
        raise HydrationError(f"Invalid jinja: more than {MAX_LOOPS} loops")
    if deepest_loop(tree, nodes.For) > MAX_NESTING:
        raise HydrationError(f"Invalid jinja: loops nested more than {MAX_NESTING} deep")
    if next(tree.find_all((nodes.Macro, nodes.CallBlock, nodes.Include, nodes.Import, nodes.FromImport)), None):
        raise HydrationError("Invalid jinja: macros and imports are not allowed")


def deepest_loop(node: Any, kind: type) -> int:
    below = max((deepest_loop(child, kind) for child in node.iter_child_nodes()), default=0)
    return below + isinstance(node, kind)
