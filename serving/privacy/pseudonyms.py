"""Pseudonyms: user ids replaced by a keyed hash before anything is stored, so that nothing stored names anybody."""

import hmac
import json
from pathlib import Path
from typing import Final, Self

from roomrec.errors import ConfigurationError
from roomrec.events.files import write_whole
from serving.settings import Settings

FINGERPRINT_FILE: Final = "pseudonyms.json"
"""In the data folder: a hash of the key that everything beside it was written with."""

_PREFIX: Final = "p_"
_BYTES: Final = 16
_SHORTEST_KEY: Final = 32
_OF_A_USER: Final = b"user:"
_OF_THE_KEY: Final = b"fingerprint:"


class Pseudonyms:
    """Turns user ids into pseudonyms: ``p_`` and 128 bits of HMAC-SHA256, the same for the same id and key.

    Nobody without the key can go back, or find out whether a given id is meant. Nothing is remembered: the hash takes
    two microseconds, and a cache would keep the ids.

    Args:
        key: At least 32 bytes, or None to leave ids as they are.

    Raises:
        ValueError: If the key is shorter.

    Example:
        >>> Pseudonyms(b"k" * 32).of("anna")
        'p_9e97de979b429cd09360945bf2b60438'
        >>> Pseudonyms(None).of("anna")
        'anna'
    """

    def __init__(self, key: bytes | None) -> None:
        if key is not None and len(key) < _SHORTEST_KEY:
            raise ValueError(f"a pseudonym key has at least {_SHORTEST_KEY} bytes, received {len(key)}")
        self._key = key

    @classmethod
    def open(cls, settings: Settings, *, has_events: bool) -> Self:
        """Read the key that the settings name, and see that it is the one the data was written with.

        Args:
            settings: How to run.
            has_events: Whether the log holds anything yet.

        Raises:
            ConfigurationError: If the key cannot be read, or the data was written with another or without one: the same
                viewer would be two.
        """
        key = _read_key(settings.pseudonym_key_file)
        file = Path(settings.data) / FINGERPRINT_FILE
        known = _read_fingerprint(file)
        given = None if key is None else hmac.digest(key, _OF_THE_KEY, "sha256").hex()
        if known == given or (known is None and not has_events):
            if given is not None and known is None:
                write_whole(file, json.dumps({"key_fingerprint": given}).encode() + b"\n")
            return cls(key)
        what_now = f"keep the key that {settings.data} began with, or begin with a new data folder"
        if known is None:
            raise ConfigurationError(
                f"pseudonym_key_file is set, but the events in {settings.data} were written with ids as they came: "
                f"leave it out, or begin with a new data folder"
            )
        if given is None:
            raise ConfigurationError(
                f"the events in {settings.data} were written with pseudonyms, and pseudonym_key_file is not set: "
                f"{what_now}"
            )
        raise ConfigurationError(
            f"the key in {settings.pseudonym_key_file} is not the one that the pseudonyms in {settings.data} were made "
            f"with: {what_now}"
        )

    def of(self, user_id: str) -> str:
        """Return the pseudonym of a user id.

        Args:
            user_id: Any text; half a surrogate pair, which JSON may smuggle in, is taken as it is.
        """
        if self._key is None:
            return user_id
        digest = hmac.digest(self._key, _OF_A_USER + user_id.encode(errors="surrogatepass"), "sha256")
        return _PREFIX + digest[:_BYTES].hex()

    def __bool__(self) -> bool:
        """Whether ids are replaced at all."""
        return self._key is not None


def _read_key(name: str) -> bytes | None:
    if not name:
        return None
    try:
        key = Path(name).read_bytes().strip()
    except OSError as error:
        raise ConfigurationError(f"pseudonym_key_file {name} cannot be read: {error}") from None
    if len(key) < _SHORTEST_KEY:
        raise ConfigurationError(
            f"pseudonym_key_file {name} holds {len(key)} bytes, needed are at least {_SHORTEST_KEY}: "
            f"`openssl rand -hex 32` makes a key"
        )
    return key


def _read_fingerprint(file: Path) -> str | None:
    try:
        return str(json.loads(file.read_bytes())["key_fingerprint"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f"{file} cannot be read: {error}; it says which key the data was written with"
        ) from None
