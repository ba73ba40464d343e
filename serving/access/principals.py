"""Who a request comes from: a name, roles, an end, and a bucket."""

from typing import NamedTuple

from serving.access.rate_limits import TokenBucket
from serving.access.roles import Role


class Principal(NamedTuple):
    """Whoever holds a key or a token."""

    name: str
    """as the access file or the token calls them; nothing secret"""
    roles: frozenset[Role]
    expires_at_s: float
    """epoch seconds; infinite for a key without an end"""
    bucket: TokenBucket | None
    """None if they may ask as often as they like"""
