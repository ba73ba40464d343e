"""Who may do what: asked before every request, on the event loop, so it costs microseconds."""

import hashlib
import hmac
import ipaddress
import logging
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple, Self

import orjson

from roomrec.errors import ConfigurationError
from serving.access.access_file import read_access_file
from serving.access.principals import Principal
from serving.access.rate_limits import TokenBucket
from serving.access.roles import OPEN_PATHS, ROOM_REPORTERS, find_rule
from serving.access.tokens import TokenVerifier
from serving.settings import Settings

_LOOK_EVERY_S: Final = 1.0
_LOG = logging.getLogger(__name__)


class Refusal(NamedTuple):
    """Why a request is not answered, ready to send."""

    status: int
    """401 without a good key or token, 403 with one of another role, 429 above the rate limit"""
    body: bytes
    """JSON, ``{"detail": ...}``"""
    headers: tuple[tuple[bytes, bytes], ...]
    """besides content type and length; lower-case names"""


class Guard:
    """Lets requests in, or says why not. One event loop uses it.

    The access file is looked at once a second, by whatever request comes then, and read again when it has changed; one
    that makes no sense leaves the former at work.

    A key is looked up by its SHA-256 and the whole hash compared in constant time. How long a dictionary takes tells at
    most something about the hash of a guess, from which no key can be made.

    Args:
        path: The access file; None lets everybody in.
        num_replicas: Processes that share the load: each grants its part of every limit.
        clock_s: Epoch seconds, for what ends.
        steady_s: Seconds of a clock that never goes back, for rates.

    Raises:
        ConfigurationError: If the file cannot be used.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        num_replicas: int = 1,
        clock_s: Callable[[], float] = time.time,
        steady_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._num_replicas = num_replicas
        self._clock_s = clock_s
        self._steady_s = steady_s
        self._keys: dict[bytes, tuple[bytes, Principal]] = {}
        self._tokens: TokenVerifier | None = None
        self._look_again_s = steady_s() + _LOOK_EVERY_S
        self._seen: dict[Path, object] = {}
        if path is not None:
            self._read(path)

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """Make the guard that the settings ask for.

        Raises:
            ConfigurationError: If the access file cannot be used, or there is none though the endpoint can be reached
                from other machines.
        """
        if settings.access:
            return cls(Path(settings.access), num_replicas=settings.replicas)
        if not settings.open_access and not _is_loopback(settings.host):
            raise ConfigurationError(
                f"host {settings.host} can be reached from other machines, and there are no keys: name an access file "
                f"with ROOMREC_ACCESS=<path> (`python -m serving make-key` begins one), listen on 127.0.0.1, or let "
                f"everybody in with ROOMREC_OPEN_ACCESS=true"
            )
        return cls(None)

    def check(self, method: str, path: str, headers: Mapping[bytes, bytes]) -> Refusal | None:
        """Decide about one request.

        Args:
            method: HTTP method in capitals.
            path: Path as the routes see it: decoded, without the query.
            headers: By lower-case name.

        Returns:
            None if it may go on, otherwise what to answer.
        """
        if self._path is None or path in OPEN_PATHS:
            return None
        now_s = self._steady_s()
        if now_s >= self._look_again_s:
            self._look_again_s = now_s + _LOOK_EVERY_S
            self._follow(self._path)
        credential = _credential(headers)
        if credential is None:
            return _NO_KEY
        principal = self._find(credential)
        if principal is None:
            return _BAD_KEY
        if principal.expires_at_s <= self._clock_s():
            return _BAD_KEY
        rule = find_rule(method, path)
        if rule is None or rule.roles.isdisjoint(principal.roles):
            return _forbidden(principal, method, rule.roles if rule else frozenset())
        if principal.bucket is not None and (wait_s := principal.bucket.take(now_s)):
            return _too_many(principal, principal.bucket, wait_s)
        return None

    def knows(self, headers: Mapping[bytes, bytes]) -> bool:
        """Whether a request comes with a key or token that is known, whatever it may be used for.

        Args:
            headers: By lower-case name.
        """
        if self._path is None:
            return True
        credential = _credential(headers)
        return credential is not None and self._find(credential) is not None

    def may_report_rooms(self, headers: Mapping[bytes, bytes]) -> bool:
        """Whether whoever was let in may report events of rooms as well: that a room ended is never taken back.

        Args:
            headers: By lower-case name, of a request that ``check`` let through.
        """
        if self._path is None:
            return True
        credential = _credential(headers)
        principal = None if credential is None else self._find(credential)
        return principal is not None and not ROOM_REPORTERS.isdisjoint(principal.roles)

    def _find(self, credential: bytes) -> Principal | None:
        digest = hashlib.sha256(credential).digest()
        found = self._keys.get(digest[:8])
        if found is not None and hmac.compare_digest(found[0], digest):
            return found[1]
        return None if self._tokens is None else self._tokens.find(credential, digest)

    def _follow(self, path: Path) -> None:
        if {file: _look_at(file) for file in self._seen} == self._seen:
            return
        try:
            self._read(path)
        except ConfigurationError as error:
            _LOG.error("the former access rules stay at work: %s", error)
        else:
            _LOG.warning("access rules read again: %d keys", len(self._keys))

    def _read(self, path: Path) -> None:
        # looked at before it is read: what is written meanwhile is seen the next time
        self._seen = {path: _look_at(path)}
        said = read_access_file(path)
        # reading the file again must not fill anybody's bucket
        tokens = None
        if said.tokens is not None:
            key_file = path.parent / said.tokens.key_file
            self._seen[key_file] = _look_at(key_file)
            limit = said.limit_of(said.tokens)
            share = None if limit is None else limit.share(self._num_replicas)
            tokens = TokenVerifier(
                said.tokens, folder=path.parent, limit=share, former=self._tokens, steady_s=self._steady_s
            )
        buckets = {principal.name: principal.bucket for _, principal in self._keys.values()}
        keys = {}
        for key in said.keys:
            limit = said.limit_of(key)
            bucket = None
            if limit is not None:
                limit = limit.share(self._num_replicas)
                bucket = buckets.get(key.name)
                bucket = bucket if bucket is not None and bucket.limit == limit else TokenBucket(limit)
            ends_at_s = math.inf if key.expires is None else key.expires.timestamp()
            digest = bytes.fromhex(key.sha256)
            keys[digest[:8]] = digest, Principal(key.name, frozenset({key.role}), ends_at_s, bucket)
        self._keys, self._tokens = keys, tokens


def _look_at(file: Path) -> object:
    """What a file looks like from outside; whatever changes it changes this."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _credential(headers: Mapping[bytes, bytes]) -> bytes | None:
    authorization = headers.get(b"authorization")
    if authorization is None:
        return headers.get(b"x-api-key") or None
    scheme, _, credential = authorization.partition(b" ")
    return credential.strip() if scheme.lower() == b"bearer" and credential else None


def _refusal(status: int, detail: str, *headers: tuple[bytes, bytes]) -> Refusal:
    return Refusal(status, orjson.dumps({"detail": detail}), headers)


_CHALLENGE: Final = (b"www-authenticate", b'Bearer realm="roomrec"')
_NO_KEY: Final = _refusal(
    401, "there is no key: send the header `Authorization: Bearer <key or token>`, or `X-API-Key: <key>`", _CHALLENGE
)
_BAD_KEY: Final = _refusal(
    401,
    "the key or token is not known here, or has ended",
    (b"www-authenticate", b'Bearer realm="roomrec", error="invalid_token"'),
)


def _forbidden(principal: Principal, method: str, roles: frozenset[str]) -> Refusal:
    # the path may name a viewer, and is not repeated
    needed = " or ".join(sorted(roles))
    has = " and ".join(sorted(principal.roles)) or "none"
    what = f"{method} here needs the role {needed}" if needed else f"{method} here is for nobody"
    return _refusal(403, f"{what}; the role of {principal.name!r} is {has}")


def _too_many(principal: Principal, bucket: TokenBucket, wait_s: float) -> Refusal:
    return _refusal(
        429,
        f"{principal.name!r} asks too often: {bucket.limit.requests_per_s:g} requests a second are granted by each "
        f"replica",
        (b"retry-after", str(max(1, math.ceil(wait_s))).encode()),
    )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
