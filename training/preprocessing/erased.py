"""Users who were erased: their events are left out of datasets, and datasets made before are not trained on."""

import hashlib
from pathlib import Path
from typing import Any, Final

from roomrec.errors import ConfigurationError, DatasetError
from roomrec.events.erasure import ERASED_USERS_FILE, ErasedUsers
from roomrec.events.sources.native import Native
from roomrec.events.sources.source import Source

DEFAULT_LIST: Final = Path("data/serving") / ERASED_USERS_FILE
"""Where the endpoint keeps its list unless told otherwise."""


def choose_list(given: str | None, source: Source) -> Path | None:
    """Return the list that speaks of a source's users, whether or not anybody is on it yet.

    Args:
        given: The setting ``erased_users``.
        source: The log. Only RoomRec's own has users of the endpoint; for others a list has to be given.

    Returns:
        The list; None if there is none for this source.

    Raises:
        ConfigurationError: If a list was given that does not exist.
    """
    if given is not None:
        if not Path(given).is_file():
            raise ConfigurationError(f"erased_users: {given} does not exist; the endpoint keeps it in its data folder")
        return Path(given)
    return DEFAULT_LIST if isinstance(source, Native) else None


def read_list(file: Path | None) -> ErasedUsers:
    """Read a list; one that is not there yet has nobody on it.

    Raises:
        EventError: If it is damaged.
    """
    return ErasedUsers(b"", {}) if file is None or not file.exists() else ErasedUsers.read(file)


def describe_list(file: Path | None, erased: ErasedUsers) -> dict[str, Any] | None:
    """Return what the summary of a dataset says of the list it was made with."""
    if file is None:
        return None
    return {"list": str(file), "users": len(erased.by_hash), "sha256": _hash(erased)}


def refuse_stale(dataset: Path, summary: dict[str, Any]) -> None:
    """Refuse a dataset that was made before somebody was erased.

    Args:
        dataset: Its folder.
        summary: Its summary. Datasets of public logs, and those made before there were lists, have none.

    Raises:
        DatasetError: If its list says more now than it did then. What the list says counts, not when: it may be told
            late of an erasure, or by a machine whose clock is behind.
        EventError: If the list is damaged.
    """
    made_with = summary.get("erased_users")
    if made_with is None:
        return
    file = Path(made_with["list"])
    now = read_list(file)
    if now.by_hash and _hash(now) != made_with.get("sha256"):
        raise DatasetError(
            f"users on {file} were erased after {dataset} was made ({made_with['users']} were on it then, "
            f"{len(now.by_hash)} are now): preprocess the log again with overwrite=true, so that nothing of them is "
            f"learned"
        )


def _hash(erased: ErasedUsers) -> str:
    lines = sorted(f"{user} {at_ms}\n" for user, at_ms in erased.by_hash.items())
    return hashlib.sha256("".join(lines).encode()).hexdigest()
