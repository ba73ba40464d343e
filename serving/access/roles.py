"""Which role may use which routes: one table."""

from typing import Final, Literal, NamedTuple, get_args

Role = Literal["frontend", "operator", "auditor"]
"""frontend asks for slates and reports what viewers do; operator works on rooms, models and users; auditor reads."""

ROLES: Final[tuple[Role, ...]] = get_args(Role)
"""Every role."""


class Rule(NamedTuple):
    """Who may use the routes below a path."""

    method: str
    prefix: str
    """the path itself, and what goes on with ``/`` or ``:``; empty for every path"""
    roles: frozenset[Role]


_EVERYBODY: Final = frozenset(ROLES)

OPEN_PATHS: Final = frozenset({"/healthz", "/readyz"})
"""Probes have no key, and are told nothing but alive and ready."""

ROOM_REPORTERS: Final[frozenset[Role]] = frozenset({"operator"})
"""Who may report events of rooms and products; others report what viewers do."""

RULES: Final = (
    Rule("POST", "/v1/recommendations", frozenset({"frontend"})),
    Rule("POST", "/v1/events", frozenset({"frontend", "operator"})),
    Rule("POST", "/v1", frozenset({"operator"})),
    Rule("PUT", "/v1", frozenset({"operator"})),
    Rule("PATCH", "/v1", frozenset({"operator"})),
    Rule("DELETE", "/v1", frozenset({"operator"})),
    Rule("GET", "/docs", _EVERYBODY),
    Rule("GET", "/redoc", _EVERYBODY),
    Rule("GET", "/openapi.json", _EVERYBODY),
    Rule("GET", "/static-offline-docs", _EVERYBODY),
    Rule("GET", "", frozenset({"operator", "auditor"})),
)
"""The first rule whose method and path fit decides; what no rule speaks of is for nobody. HEAD counts as GET."""


def find_rule(method: str, path: str) -> Rule | None:
    """Return the rule for a route, None if it is for nobody.

    Args:
        method: HTTP method in capitals.
        path: Path as the routes see it: decoded, without the query.

    Example:
        >>> sorted(find_rule("POST", "/v1/models:rollback").roles)
        ['operator']
        >>> find_rule("GET", "/v1/modelsX").prefix
        ''
    """
    if method == "HEAD":
        method = "GET"
    for rule in RULES:
        if method == rule.method and path.startswith(rule.prefix):
            end = len(rule.prefix)
            if end in (0, len(path)) or path[end] in "/:":
                return rule
    return None
