"""Settings of the endpoint: read once, from the environment or from a dictionary, then passed on."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, Self

import msgspec

from roomrec.errors import ConfigurationError

PREFIX = "ROOMREC_"
"""Every field of ``Settings`` may be set by an environment variable: ``ROOMREC_HISTORY_LIMIT=400``."""

_AT_LEAST_ONE: Final = (
    "replicas",
    "history_limit",
    "max_k",
    "max_body_bytes",
    "max_events",
    "poll_ms",
    "state_bytes",
    "slate_log_bytes",
    "redis_timeout_ms",
    "redis_read_timeout_ms",
    "model_retry_ms",
)

_NOT_NEGATIVE: Final = (
    "encoder_cache_bytes",
    "max_replicas",
    "upscale_delay_s",
    "downscale_delay_s",
    "cpus_per_replica",
    "leave_s",
    "drain_s",
    "model_failures",
    "promotion_max_drop",
    "redis_events_kept",
    "redis_user_ttl_days",
)


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the endpoint runs; every value may come from ``ROOMREC_<NAME>`` in the environment.

    Attributes:
        registry: Folder of the bundle registry.
        data: Folder of the event log and the state.
        host: Address to listen on.
        port: Port to listen on.
        replicas: Processes that answer; the least of them where ``max_replicas`` is more.
        max_replicas: The most processes, as many as the load asks for; 0 for ``replicas``, always.
        target_ongoing_requests: Requests waiting or being answered in one replica above which there should be more.
        upscale_delay_s: How long there must be too many requests before replicas are added.
        downscale_delay_s: How long there must be too few before replicas are taken away.
        cpus_per_replica: What Ray reserves for a replica; 0 lets any number start on a small machine.
        max_wait_ms: How long a request may wait for its turn; when the next would wait longer, it is refused with 503.
        leave_s: How long the last replica of a machine that is to stop says so on ``/readyz`` and goes on answering, so
            that a load balancer stops sending before nobody listens.
        max_post_wait_ms: The same for reports of events, which wait for one another, and longer.
        drain_s: How long a replica that is to stop waits for clients that keep a silent connection.
        allow_no_model: Whether to answer with what is popular while there is no champion.
        history_limit: Most events remembered for a viewer; at least the model's ``max_sequence_length``.
        viewer_cache_bytes: Most bytes of records a replica keeps unpacked, which takes five times as many.
        encoder_cache_bytes: Most bytes that a model in a replica remembers of viewers, so that only new events are run.
        max_k: Most items one may ask for.
        max_body_bytes: Longest request body; a longer one is answered 413.
        max_events: Most events in one body.
        poll_ms: How often a replica looks for a new champion and for events whose writer died.
        shadow_share: Share of requests that a challenger nobody sees answers too, to be compared with the champion.
        promotion_metric: Metric by which a version worse than the champion is told, where both were measured alike.
        promotion_max_drop: Share of the champion's metric that a version may lack and still be promoted.
        keep_previous: Whether the version before the champion stays in memory, to answer when the champion fails.
        model_failures: Most of the newest 100 requests that a model may fail on; then another answers for a while.
        model_retry_ms: How long that while is.
        state_bytes: Most bytes the state's file may grow to.
        slate_log: Whether every slate is written to files.
        slates: Folder of these files, on a disk of the machine itself, since requests wait for it; empty for ``slates``
            in the data folder.
        slate_log_bytes: Most bytes of slates kept by the replicas of a machine; the oldest go first.
        event_log: Where events are kept: ``sqlite`` for one machine, ``redis`` for many.
        state_store: Where the state is kept: ``lmdb`` on every machine, or one ``redis`` for all.
        redis_url: The Redis of both; ``rediss://`` for TLS, ``unix://`` for a socket. Its password is never shown.
        redis_prefix: How every key begins, as ``{roomrec}:...``: two endpoints with different prefixes share nothing.
        redis_timeout_ms: Longest wait for Redis to store what was posted; then the request is answered 503.
        redis_read_timeout_ms: The same where a request reads: all of a replica waits meanwhile, so it must not be long.
        redis_durability: What is asked of Redis: ``always`` (nothing acknowledged is lost), ``everysec`` (a crash may
            lose a second), ``trusted`` (the provider vouches for it, and forbids to ask).
        redis_events_kept: Newest events that trimming the log leaves in Redis; so long a repeated event is recognised.
        redis_user_ttl_days: A viewer who did nothing for so long is forgotten by the state; 0 for never.
        access: File that says which keys and tokens may use which routes; empty for none.
        open_access: Whether an endpoint without such a file may listen on more than this machine.
        pseudonym_key_file: File with the key that turns user ids into pseudonyms; empty leaves them as they are.
    """

    registry: str = "data/registry"
    data: str = "data/serving"
    host: str = "127.0.0.1"
    port: int = 8000
    replicas: int = 1
    max_replicas: int = 0
    target_ongoing_requests: float = 2.0
    upscale_delay_s: float = 10.0
    downscale_delay_s: float = 300.0
    cpus_per_replica: float = 0.0
    max_wait_ms: float = 15.0
    max_post_wait_ms: float = 500.0
    leave_s: float = 0.0
    drain_s: float = 2.0
    allow_no_model: bool = False
    history_limit: int = 200
    viewer_cache_bytes: int = 16 << 20
    encoder_cache_bytes: int = 64 << 20
    max_k: int = 200
    max_body_bytes: int = 8 << 20
    max_events: int = 10_000
    poll_ms: int = 500
    shadow_share: float = 0.05
    promotion_metric: str = "ndcg@10"
    promotion_max_drop: float = 0.02
    keep_previous: bool = True
    model_failures: int = 20
    model_retry_ms: int = 30_000
    state_bytes: int = 64 << 30
    slate_log: bool = True
    slates: str = ""
    slate_log_bytes: int = 16 << 30
    event_log: Literal["sqlite", "redis"] = "sqlite"
    state_store: Literal["lmdb", "redis"] = "lmdb"
    redis_url: str = "redis://127.0.0.1:6379/0"
    redis_prefix: str = "roomrec"
    redis_timeout_ms: int = 1_000
    redis_read_timeout_ms: int = 50
    redis_durability: Literal["always", "everysec", "trusted"] = "always"
    redis_events_kept: int = 1_000_000
    redis_user_ttl_days: int = 0
    access: str = ""
    open_access: bool = False
    pseudonym_key_file: str = ""

    @classmethod
    def read(cls, given: Mapping[str, Any] | None = None, *, environment: Mapping[str, str] | None = None) -> Self:
        """Read settings: what is given wins over the environment, the environment over the defaults.

        Args:
            given: Values by field name; None means not given.
            environment: ``os.environ`` by default.

        Raises:
            ConfigurationError: If a value does not fit; the message names it.
        """
        environment = os.environ if environment is None else environment
        values: dict[str, Any] = {
            name: environment[PREFIX + name.upper()]
            for name in cls.__struct_fields__
            if PREFIX + name.upper() in environment
        }
        values |= {name: value for name, value in (given or {}).items() if value is not None}
        try:
            settings = msgspec.convert(values, cls, strict=False)
        except msgspec.ValidationError as error:
            raise ConfigurationError(
                f"settings do not fit: {error}; fields are {list(cls.__struct_fields__)}"
            ) from None
        for name in _AT_LEAST_ONE:
            if getattr(settings, name) < 1:
                raise ConfigurationError(f"{name} must be at least 1, received {getattr(settings, name)}")
        for name in ("target_ongoing_requests", "max_wait_ms", "max_post_wait_ms"):
            if getattr(settings, name) <= 0:
                raise ConfigurationError(f"{name} must be above 0, received {getattr(settings, name)}")
        for name in _NOT_NEGATIVE:
            if getattr(settings, name) < 0:
                raise ConfigurationError(f"{name} must not be negative, received {getattr(settings, name)}")
        if not settings.redis_prefix or set(settings.redis_prefix) & set("{}"):
            raise ConfigurationError(
                f"redis_prefix must hold a character and no braces, received {settings.redis_prefix!r}"
            )
        if not 0 <= settings.port < 65536:
            raise ConfigurationError(f"port must be in 0..65535, received {settings.port}")
        return settings

    def __repr__(self) -> str:
        """Leave out the address of Redis, which may hold a password."""
        shown = (f"{name}={getattr(self, name)!r}" for name in self.__struct_fields__ if name != "redis_url")
        return f"Settings({', '.join(shown)})"

    @property
    def registry_path(self) -> Path:
        """The registry's folder."""
        return Path(self.registry)

    @property
    def event_log_path(self) -> Path:
        """The SQLite file of the event log."""
        return Path(self.data) / "events.sqlite"

    @property
    def state_path(self) -> Path:
        """The LMDB folder of the state."""
        return Path(self.data) / "state"

    @property
    def slates_path(self) -> Path:
        """The folder of the files of slates."""
        return Path(self.slates) if self.slates else Path(self.data) / "slates"

    def size_formula(self) -> str:
        """Say how large the state gets, in a sentence.

        An event of a history takes about 100 bytes with ids of 12 characters; LMDB rounds long records up to whole
        pages of 4 KB, so a full history is counted as a third more.
        """
        full = self.history_limit * 100 * 4 // 3
        log = "" if self.event_log == "sqlite" else f"; log in Redis: events x 300 B, {self.redis_events_kept} are kept"
        return (
            f"state size: viewers x min(events, {self.history_limit}) x 133 B + live rooms x (1.2 KB + listings x 150 "
            f"B) + products x 250 B + ended rooms x 80 B + at most 115 MB of changes; a million viewers with full "
            f"histories: {full / 1000:.1f} GB{log}"
        )
