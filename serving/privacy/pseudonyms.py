"""Pseudonyms: user ids replaced by a keyed hash before anything is stored, so that nothing stored names anybody."""

import hmac
from pathlib import Path
from typing import Final, Self

from roomrec.errors import ConfigurationError
from serving.settings import Settings
from serving.state.event_log import EventLog

_NOTE: Final = "pseudonym_key"
_NO_KEY: Final = "none"
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
    def open(cls, settings: Settings, log: EventLog) -> Self:
        """Read the key that the settings name, and see that it is the one the log was written with.

        Args:
            settings: How to run.
            log: Keeps a hash of the key; an empty one begins with the key it is given.

        Raises:
            ConfigurationError: If the key cannot be read, or the log was written with another or without one: the same
                viewer would be two.
            StateError: If the log cannot be read or written.
        """
        key = _read_key(settings.pseudonym_key_file)
        given = _NO_KEY if key is None else hmac.digest(key, _OF_THE_KEY, "sha256").hex()
        known = log.note(_NOTE)
        if known is None:
            # logs of former versions hold events and no note: they were written with ids as they came
            known = log.note(_NOTE, _NO_KEY if log.last_seq() else given)
        if known == given:
            return cls(key)
        what_now = "go on as the log began, or begin a new one"
        if known == _NO_KEY:
            raise ConfigurationError(
                f"pseudonym_key_file is set, and the event log was begun with user ids as they come: {what_now}"
            )
        if given == _NO_KEY:
            raise ConfigurationError(
                f"the event log was begun with pseudonyms, and pseudonym_key_file is not set: {what_now}"
            )
        raise ConfigurationError(
            f"the key in {settings.pseudonym_key_file} is not the one the pseudonyms of the event log were made with: "
            f"{what_now}"
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
