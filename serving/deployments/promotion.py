"""What operators do with versions, and what keeps a bad one out."""

import asyncio
from typing import Any

from roomrec.bundle.comparison import compare_metrics
from roomrec.errors import BundleError, RegistryError
from serving.deployments.loaded import Loaded
from serving.deployments.models import ServingModels


class Promotion:
    """Proves a version here before the registry points to it; the other replicas follow within ``poll_ms``.

    Args:
        models: The models of this replica.
    """

    def __init__(self, models: ServingModels) -> None:
        self._models = models
        self._registry = models.registry

    async def promote(self, version: str, *, force: bool = False) -> dict[str, Any]:
        """Make a version champion.

        Args:
            version: A published version.
            force: Whether to take it although it is worse, or fails on some of what is live or was asked.

        Returns:
            As ``ServingModels.describe``, with ``comparison``.

        Raises:
            RegistryError: If there is no such version.
            BundleError: If the bundle is altered, incompatible or does not run; unless forced, also if it is worse.
        """
        models = self._models
        async with models.changing:
            await self._must_exist(version)
            candidate = await models.obtain(version, strict=not force)
            try:
                is_worse, comparison = self._compare(candidate)
                if not force:
                    self._refuse_failing(candidate)
                    if is_worse:
                        raise BundleError(
                            f"version {version} is worse than the champion: {comparison}; promote it with ?force=true "
                            f"if that is meant"
                        )
                await asyncio.to_thread(self._registry.promote, version)
                await models.apply(await asyncio.to_thread(self._registry.in_use), candidate=candidate)
            finally:
                models.discard(candidate)
        return await models.describe() | {"comparison": comparison}

    async def start_canary(self, version: str, *, share: float, force: bool = False) -> dict[str, Any]:
        """Let a version answer a share of the viewers, or change that share; 0 only compares it with the champion.

        Args:
            version: A published version other than the champion.
            share: Of viewers, 0 to 1.
            force: As for ``promote``. A canary may be worse by its metrics: finding out is what it is for.

        Raises:
            RegistryError: If there is no such version, or it is the champion.
            BundleError: As ``promote``.
        """
        models = self._models
        async with models.changing:
            await self._must_exist(version)
            candidate = await models.obtain(version, strict=not force)
            try:
                if share and not force:
                    self._refuse_failing(candidate)
                _, comparison = self._compare(candidate)
                await asyncio.to_thread(self._registry.start_canary, version, share=share)
                await models.apply(await asyncio.to_thread(self._registry.in_use), candidate=candidate)
            finally:
                models.discard(candidate)
        return await models.describe() | {"comparison": comparison}

    async def stop_canary(self, version: str) -> dict[str, Any]:
        """Give all viewers back to the champion.

        Raises:
            RegistryConflictError: If another version, or none, is the challenger.
        """
        models = self._models
        async with models.changing:
            await asyncio.to_thread(self._registry.withdraw, "challenger", expected=version)
            await models.apply(await asyncio.to_thread(self._registry.in_use))
        return await models.describe()

    async def roll_back(self) -> dict[str, Any]:
        """Go back to the champion before this one, and end a canary.

        Raises:
            RegistryError: If there was none.
            BundleError: If it cannot be loaded any more; everything stays what it was.
        """
        models = self._models
        async with models.changing:
            version = await asyncio.to_thread(self._registry.previous)
            candidate = await models.obtain(version, strict=False)
            try:
                # what is in memory is good; a replica that starts tomorrow needs the files
                await asyncio.to_thread(self._registry.check, version)
                await asyncio.to_thread(self._registry.rollback, expected=version)
                await models.apply(await asyncio.to_thread(self._registry.in_use), candidate=candidate)
            finally:
                models.discard(candidate)
        return await models.describe()

    async def _must_exist(self, version: str) -> None:
        published = await self._models.reader.read(self._registry.versions)
        if version not in published:
            raise RegistryError(f"version {version!r} does not exist; published are {published}")

    def _refuse_failing(self, candidate: Loaded) -> None:
        shadow = self._models.shadow
        compared = shadow.failed if shadow is not None and shadow.candidate is candidate else 0
        if failed := compared + candidate.failed:
            raise BundleError(
                f"version {candidate.version} failed on {failed} requests that it was shown here; ?force=true takes it "
                f"nevertheless"
            )

    def _compare(self, candidate: Loaded) -> tuple[bool, str]:
        champion, settings = self._models.champion, self._models.settings
        if champion is None:
            return False, "not compared: there is no champion"
        if champion is candidate:
            return False, "not compared: it is the champion"
        return compare_metrics(
            candidate.model.manifest,
            champion.model.manifest,
            metric=settings.promotion_metric,
            max_drop=settings.promotion_max_drop,
        )
