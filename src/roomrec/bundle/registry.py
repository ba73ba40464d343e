"""Bundles by version, and which of them is champion and which challenger."""

import fcntl
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypedDict

from roomrec.bundle.manifest import MANIFEST_FILE, Manifest, file_sha256
from roomrec.bundle.reader import Bundle, verify_bundle
from roomrec.errors import BundleError, RegistryError

CHANNELS: Final = ("champion", "challenger")
"""The champion answers by default; the challenger answers the share of traffic an experiment gives it."""

_VERSIONS = "versions"
_CHANNELS_FILE = "channels.json"
_LOCK_FILE = ".lock"
_INCOMING = ".incoming-"


class _Channel(TypedDict):
    version: str | None
    history: list[str]


class Registry:
    """A folder of immutable bundle versions and one small file that says which are in use.

    ``versions/<version>/`` holds bundles, ``channels.json`` both channels with what each pointed to before. The file is
    replaced in one step, so a reader sees the state before or after a promotion, never between. Writers take a lock.

    Args:
        root: The registry's folder; made when something is first published.

    Example::

        registry = Registry(Path("data/registry"))
        version = registry.publish(Path("data/runs/first/bundle"))
        registry.promote(version)
        bundle = registry.open(registry.channel("champion"))
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def publish(self, bundle: Path) -> str:
        """Copy a bundle into the registry, check the copy, and make it visible in one step.

        The version's name is the bundle's ``created_at`` and the first 8 digits of its manifest's sha256, so names sort
        by age and the same bundle published twice is one version.

        Args:
            bundle: Folder of a finished bundle.

        Returns:
            The version, for example ``20260131T101500-1a2b3c4d``.

        Raises:
            BundleError: If the bundle, or the copy of it, is incomplete or altered.
            RegistryError: If the folder cannot be written.
        """
        version = _version_name(bundle)
        target = self.path(version)
        incoming = target.with_name(f"{_INCOMING}{uuid.uuid4().hex}")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(bundle, incoming)
            verify_bundle(incoming)
            for file in incoming.iterdir():
                _sync(file)
            _sync(incoming)
            with self._writing():
                if not target.exists():
                    os.rename(incoming, target)
                    _sync(target.parent)
        except OSError as error:
            raise RegistryError(f"{bundle} cannot be published to {self.root}: {error}") from error
        finally:
            shutil.rmtree(incoming, ignore_errors=True)
        return version

    def versions(self) -> list[str]:
        """Return the published versions, oldest first."""
        folder = self.root / _VERSIONS
        if not folder.is_dir():
            return []
        return sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))

    def path(self, version: str) -> Path:
        """Return the folder of a version, whether or not it is published."""
        return self.root / _VERSIONS / version

    def open(self, version: str) -> Bundle:
        """Open a published version.

        Raises:
            BundleError: As ``Bundle.open``; or if the manifest, which no hash inside the bundle covers, is not the one
                that was published.
        """
        self._check_manifest(version)
        return Bundle.open(self.path(version))

    def channel(self, name: str) -> str | None:
        """Return the version a channel points to, or None.

        Raises:
            RegistryError: If there is no such channel, or ``channels.json`` is damaged.
        """
        return self._channels()[_known(name)]["version"]

    def promote(self, version: str, channel: str = "champion") -> None:
        """Point a channel to a version. A challenger that becomes champion is a challenger no longer.

        Args:
            version: A published version.
            channel: ``champion`` or ``challenger``.

        Raises:
            RegistryError: If the version or the channel does not exist, or the folder cannot be written.
            BundleError: If the version has been altered since it was published.
        """
        _known(channel)
        if version not in self.versions():
            raise RegistryError(f"version {version!r} is not in {self.root}; published are {self.versions()}")
        self._check_manifest(version)
        verify_bundle(self.path(version))
        with self._writing():
            channels = self._channels()
            _point(channels[channel], version)
            if channel == "champion" and channels["challenger"]["version"] == version:
                _point(channels["challenger"], None)
            self._write(channels)

    def withdraw(self, channel: str) -> None:
        """Point a channel to nothing: ends an experiment.

        Raises:
            RegistryError: If the channel does not exist, or the folder cannot be written.
        """
        _known(channel)
        with self._writing():
            channels = self._channels()
            _point(channels[channel], None)
            self._write(channels)

    def rollback(self, channel: str = "champion") -> str:
        """Point a channel to the version it had before, and return that version.

        Rolling back twice goes back two versions.

        Raises:
            RegistryError: If the channel does not exist or had no version before.
        """
        _known(channel)
        with self._writing():
            channels = self._channels()
            history = channels[channel]["history"]
            if not history:
                raise RegistryError(f"channel {channel!r} of {self.root} has no version to go back to")
            version = history.pop()
            channels[channel]["version"] = version
            self._write(channels)
        return version

    def _check_manifest(self, version: str) -> None:
        found = _version_name(self.path(version))
        if found != version:
            raise BundleError(f"the manifest of version {version} was altered: by its bytes it is {found}")

    def _channels(self) -> dict[str, _Channel]:
        file = self.root / _CHANNELS_FILE
        try:
            stored = json.loads(file.read_text(encoding="utf-8"))
            return {
                name: {"version": stored[name]["version"], "history": list(stored[name]["history"])}
                for name in CHANNELS
            }
        except FileNotFoundError:
            return {name: {"version": None, "history": []} for name in CHANNELS}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RegistryError(f"{file} cannot be read: {error!r}") from error

    def _write(self, channels: dict[str, _Channel]) -> None:
        unfinished = self.root / f".{_CHANNELS_FILE}-{uuid.uuid4().hex}"
        try:
            unfinished.write_text(json.dumps(channels, indent=2) + "\n", encoding="utf-8")
            _sync(unfinished)
            os.replace(unfinished, self.root / _CHANNELS_FILE)
            _sync(self.root)
        except OSError as error:
            unfinished.unlink(missing_ok=True)
            raise RegistryError(f"{self.root / _CHANNELS_FILE} cannot be written: {error}") from error

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Keep other writers out, in this process and in others; the kernel frees the lock of a writer that dies."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            lock = (self.root / _LOCK_FILE).open("w")
        except OSError as error:
            raise RegistryError(f"registry {self.root} cannot be written: {error}") from error
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _known(channel: str) -> str:
    if channel not in CHANNELS:
        raise RegistryError(f"channel {channel!r} does not exist; there are {list(CHANNELS)}")
    return channel


def _point(channel: _Channel, version: str | None) -> None:
    """Move a channel; pointing it to where it already points is no step in its history."""
    if channel["version"] != version:
        if channel["version"] is not None:
            channel["history"].append(channel["version"])
        channel["version"] = version


def _version_name(bundle: Path) -> str:
    created_at = Manifest.read(bundle).created_at
    try:
        moment = datetime.fromisoformat(created_at).astimezone(UTC)
    except ValueError:
        raise RegistryError(f"the manifest of {bundle} has created_at {created_at!r}, expected ISO 8601") from None
    return f"{moment:%Y%m%dT%H%M%S}-{file_sha256(bundle / MANIFEST_FILE)[:8]}"


def _sync(path: Path) -> None:
    """Make a file's bytes, or a folder's entries, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
