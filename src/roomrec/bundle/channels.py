"""The one small file that says which versions are in use, replaced in one step under a lock."""

import fcntl
import json
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final, NamedTuple, TypedDict

from roomrec.errors import RegistryError, RegistryUnavailableError

CHANNELS: Final = ("champion", "challenger")
"""The champion answers by default; the challenger answers a share of the viewers, 0 at first."""

_CHANNELS_FILE = "channels.json"
_LOCK_FILE = ".lock"
_LOCK_WAIT_S = 10.0
_LOCK_RETRY_S = 0.02


class InUse(NamedTuple):
    """What the channels said at one instant."""

    champion: str | None
    challenger: str | None
    share: float
    """of viewers whom the challenger answers, 0 to 1; 0 where there is none"""


class Channel(TypedDict):
    """Where a channel points, and what it pointed to before, oldest first."""

    version: str | None
    history: list[str]


class Channels(TypedDict):
    """All that the file says."""

    champion: Channel
    challenger: Channel
    share: float


def read_channels(root: Path) -> Channels:
    """Read the channels of a registry; where nothing was ever promoted they point to nothing.

    Args:
        root: The registry's folder.

    Raises:
        RegistryUnavailableError: If ``channels.json`` is damaged or cannot be read.
    """
    file = root / _CHANNELS_FILE
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
        champion, challenger = (
            Channel(version=stored[name]["version"], history=list(stored[name]["history"])) for name in CHANNELS
        )
        # files written before there were shares have none
        share = float(stored["challenger"].get("share", 0.0)) if challenger["version"] else 0.0
        return {"champion": champion, "challenger": challenger, "share": share}
    except FileNotFoundError:
        return {
            "champion": {"version": None, "history": []},
            "challenger": {"version": None, "history": []},
            "share": 0.0,
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RegistryUnavailableError(f"{file} cannot be read: {error!r}") from error


@contextmanager
def changed_channels(root: Path) -> Iterator[Channels]:
    """Give the channels to change, and write them in one step if nothing was raised meanwhile.

    Raises:
        RegistryUnavailableError: If they cannot be read or written, or another writer does not come to an end.
    """
    with writing(root):
        channels = read_channels(root)
        yield channels
        _write(root, channels)


@contextmanager
def writing(root: Path) -> Iterator[None]:
    """Keep other writers out, in this process and in others; the kernel frees the lock of a writer that dies.

    Raises:
        RegistryUnavailableError: If the folder cannot be written, or another writer does not come to an end.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = (root / _LOCK_FILE).open("w")
    except OSError as error:
        raise RegistryUnavailableError(f"registry {root} cannot be written: {error}") from error
    with lock:
        _take(lock, root)
        yield


def channel_of(channels: Channels, name: str) -> Channel:
    """Return a channel by name.

    Raises:
        RegistryError: If there is no such channel.
    """
    if name not in CHANNELS:
        raise RegistryError(f"channel {name!r} does not exist; there are {list(CHANNELS)}")
    return channels["champion"] if name == "champion" else channels["challenger"]


def point(channel: Channel, version: str | None) -> None:
    """Move a channel; pointing it to where it already points is no step in its history."""
    if channel["version"] != version:
        if channel["version"] is not None:
            channel["history"].append(channel["version"])
        channel["version"] = version


def end_challenge(channels: Channels) -> None:
    """Leave no challenger."""
    point(channels["challenger"], None)
    channels["share"] = 0.0


def sync(path: Path) -> None:
    """Make a file's bytes, or a folder's entries, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(root: Path, channels: Channels) -> None:
    unfinished = root / f".{_CHANNELS_FILE}-{uuid.uuid4().hex}"
    stored = {
        "champion": channels["champion"],
        "challenger": {**channels["challenger"], "share": channels["share"]},
    }
    try:
        unfinished.write_text(json.dumps(stored, indent=2) + "\n", encoding="utf-8")
        sync(unfinished)
        os.replace(unfinished, root / _CHANNELS_FILE)
        sync(root)
    except OSError as error:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise RegistryUnavailableError(f"{root / _CHANNELS_FILE} cannot be written: {error}") from error


def _take(lock: IO[str], root: Path) -> None:
    until = time.monotonic() + _LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > until:
                raise RegistryUnavailableError(
                    f"{root / _LOCK_FILE} has been held by another writer for {_LOCK_WAIT_S:.0f} s"
                ) from None
            time.sleep(_LOCK_RETRY_S)
        except OSError as error:
            raise RegistryUnavailableError(f"{root / _LOCK_FILE} cannot be locked: {error}") from error
