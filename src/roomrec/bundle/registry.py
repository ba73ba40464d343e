"""Bundles by version, and which of them is champion and which challenger."""

import math
import os
import shutil
import uuid
from datetime import UTC, datetime
from pathlib import Path

from roomrec.bundle.channels import (
    Channels,
    InUse,
    changed_channels,
    channel_of,
    end_challenge,
    point,
    read_channels,
    sync,
    writing,
)
from roomrec.bundle.manifest import MANIFEST_FILE, Manifest, file_sha256
from roomrec.bundle.reader import Bundle, verify_bundle
from roomrec.errors import BundleError, RegistryConflictError, RegistryError, RegistryUnavailableError
from roomrec.features.pieces import Pause, no_pause

_VERSIONS = "versions"
_INCOMING = ".incoming-"


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
            RegistryUnavailableError: If the folder cannot be written.
        """
        version = _version_name(bundle)
        target = self.path(version)
        incoming = target.with_name(f"{_INCOMING}{uuid.uuid4().hex}")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(bundle, incoming)
            verify_bundle(incoming)
            for file in incoming.iterdir():
                sync(file)
            sync(incoming)
            with writing(self.root):
                if not target.exists():
                    os.rename(incoming, target)
                    sync(target.parent)
        except OSError as error:
            raise RegistryUnavailableError(f"{bundle} cannot be published to {self.root}: {error}") from error
        finally:
            shutil.rmtree(incoming, ignore_errors=True)
        return version

    def versions(self) -> list[str]:
        """Return the published versions, oldest first.

        Raises:
            RegistryUnavailableError: If the folder cannot be read.
        """
        folder = self.root / _VERSIONS
        try:
            return sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise RegistryUnavailableError(f"{folder} cannot be read: {error}") from error

    def path(self, version: str) -> Path:
        """Return the folder of a version, whether or not it is published."""
        return self.root / _VERSIONS / version

    def open(self, version: str, *, pause: Pause = no_pause) -> Bundle:
        """Open a published version.

        Args:
            version: Its name.
            pause: Called between pieces of the work.

        Raises:
            BundleError: As ``Bundle.open``; or if the manifest, which no hash inside the bundle covers, is not the one
                that was published.
            RegistryUnavailableError: If its files cannot be read.
        """
        try:
            self._check_manifest(version)
            return Bundle.open(self.path(version), pause=pause)
        except OSError as error:
            raise RegistryUnavailableError(f"version {version} cannot be read: {error}") from error

    def check(self, version: str) -> None:
        """Check that a version is there and that not a byte of it has changed since it was published.

        Raises:
            RegistryError: If it does not exist.
            RegistryUnavailableError: If its files cannot be read.
            BundleError: If it has been altered.
        """
        if version not in (published := self.versions()):
            raise RegistryError(f"version {version!r} is not in {self.root}; published are {published}")
        try:
            self._check_manifest(version)
            verify_bundle(self.path(version))
        except OSError as error:
            raise RegistryUnavailableError(f"version {version} cannot be read: {error}") from error

    def channel(self, name: str) -> str | None:
        """Return the version a channel points to, or None.

        Raises:
            RegistryError: If there is no such channel.
            RegistryUnavailableError: If ``channels.json`` is damaged or cannot be read.
        """
        return channel_of(read_channels(self.root), name)["version"]

    def in_use(self) -> InUse:
        """Return both channels and the challenger's share, all of one instant.

        Raises:
            RegistryUnavailableError: If ``channels.json`` is damaged or cannot be read.
        """
        channels = read_channels(self.root)
        return InUse(channels["champion"]["version"], channels["challenger"]["version"], channels["share"])

    def previous(self, channel: str = "champion") -> str:
        """Return the version that ``rollback`` would go back to.

        Raises:
            RegistryError: If the channel does not exist or had no version before.
            RegistryUnavailableError: If ``channels.json`` is damaged or cannot be read.
        """
        history = channel_of(read_channels(self.root), channel)["history"]
        if not history:
            raise RegistryError(f"channel {channel!r} of {self.root} has no version to go back to")
        return history[-1]

    def promote(self, version: str, channel: str = "champion") -> None:
        """Point a channel to a version. A challenger that becomes champion is a challenger no longer.

        A new challenger begins with a share of 0; ``start_canary`` gives it one.

        Args:
            version: A published version.
            channel: ``champion`` or ``challenger``.

        Raises:
            RegistryError: If the version or the channel does not exist, or the champion is to be challenger.
            RegistryUnavailableError: If the folder cannot be written.
            BundleError: If the version has been altered since it was published.
        """
        self.check(version)
        with changed_channels(self.root) as channels:
            chosen = channel_of(channels, channel)
            if channel == "challenger":
                _challenge(channels, version, share=0.0)
                return
            point(chosen, version)
            if channels["challenger"]["version"] == version:
                end_challenge(channels)

    def start_canary(self, version: str, *, share: float) -> None:
        """Make a version challenger and give it a share of the viewers; asked again, change the share.

        Args:
            version: A published version other than the champion.
            share: Of viewers, 0 to 1. With 0 it answers nobody; an endpoint may still compare it with the champion.

        Raises:
            ValueError: If the share is not in 0..1.
            RegistryError: If the version does not exist or is the champion.
            RegistryUnavailableError: If the folder cannot be written.
            BundleError: If the version has been altered since it was published.
        """
        if not (math.isfinite(share) and 0.0 <= share <= 1.0):
            raise ValueError(f"share must be in 0..1, received {share}")
        self.check(version)
        with changed_channels(self.root) as channels:
            _challenge(channels, version, share=share)

    def withdraw(self, channel: str, *, expected: str | None = None) -> None:
        """Point a channel to nothing: ends an experiment.

        Args:
            channel: ``champion`` or ``challenger``.
            expected: The version it has to point to now; None for any.

        Raises:
            RegistryError: If the channel does not exist, or points to something else than expected.
            RegistryUnavailableError: If the folder cannot be written.
        """
        with changed_channels(self.root) as channels:
            version = channel_of(channels, channel)["version"]
            if expected not in (None, version):
                raise RegistryConflictError(f"version {expected!r} is not {channel} of {self.root}; {version!r} is")
            if channel == "challenger":
                end_challenge(channels)
            else:
                point(channels["champion"], None)

    def rollback(self, channel: str = "champion", *, expected: str | None = None) -> str:
        """Point a channel to the version it had before, and return that version.

        Rolling back twice goes back two versions. Rolling the champion back also ends a challenge: what the challenger
        was compared with is gone, and whoever rolls back wants every viewer on what was known to be good.

        Args:
            channel: ``champion`` or ``challenger``; a challenger that was rolled back to has a share of 0.
            expected: The version that was proven to load; None for any. If somebody else was faster, nothing changes.

        Raises:
            RegistryError: If the channel does not exist, had no version before, or would go to another than expected.
            RegistryUnavailableError: If the folder cannot be written.
        """
        with changed_channels(self.root) as channels:
            chosen = channel_of(channels, channel)
            history = chosen["history"]
            if not history:
                raise RegistryError(f"channel {channel!r} of {self.root} has no version to go back to")
            if expected not in (None, history[-1]):
                raise RegistryConflictError(
                    f"channel {channel!r} of {self.root} was changed meanwhile: it would go back to {history[-1]}, not "
                    f"to {expected}"
                )
            version = history.pop()
            chosen["version"] = version
            channels["share"] = 0.0
            if channel == "champion":
                end_challenge(channels)
        return version

    def _check_manifest(self, version: str) -> None:
        found = _version_name(self.path(version))
        if found != version:
            raise BundleError(f"the manifest of version {version} was altered: by its bytes it is {found}")


def _challenge(channels: Channels, version: str, *, share: float) -> None:
    if channels["champion"]["version"] == version:
        raise RegistryConflictError(f"version {version!r} is the champion: it cannot be its own challenger")
    point(channels["challenger"], version)
    channels["share"] = share


def _version_name(bundle: Path) -> str:
    created_at = Manifest.read(bundle).created_at
    try:
        moment = datetime.fromisoformat(created_at).astimezone(UTC)
    except ValueError:
        raise RegistryError(f"the manifest of {bundle} has created_at {created_at!r}, expected ISO 8601") from None
    return f"{moment:%Y%m%dT%H%M%S}-{file_sha256(bundle / MANIFEST_FILE)[:8]}"
