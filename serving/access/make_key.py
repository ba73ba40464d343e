"""A new key, and what the access file is to know of it."""

import secrets
from typing import NamedTuple

from serving.access.access_file import KEY_PREFIX, hash_key
from serving.access.roles import Role


class NewKey(NamedTuple):
    """A key that was just drawn."""

    key: str
    """shown once, stored nowhere"""
    lines: str
    """for the access file"""


def make_key(name: str, role: Role) -> NewKey:
    """Draw a key of 256 random bits.

    Args:
        name: Whose it is to be.
        role: What it may be used for.

    Raises:
        ValueError: If the name is empty or would need quoting.
    """
    if not name or not name.replace("-", "").replace("_", "").replace(".", "").isalnum() or not name.isascii():
        raise ValueError(f"a name is made of letters, digits, '-', '_' and '.', received {name!r}")
    key = KEY_PREFIX + secrets.token_urlsafe(32)
    return NewKey(key, f'[[keys]]\nname = "{name}"\nrole = "{role}"\nsha256 = "{hash_key(key)}"\n')
