"""JSON Web Tokens: verified once, remembered until they end."""

import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Self

import jwt
from jwt.types import Options

from roomrec.errors import ConfigurationError
from serving.access.access_file import TokenIssuer
from serving.access.principals import Principal
from serving.access.rate_limits import RateLimit, TokenBucket
from serving.access.roles import ROLES, Role

_REMEMBERED: Final = 4096
"""Good tokens, wrong ones, and subjects with a bucket, that are remembered; of more, the one not seen for longest
goes."""

_WRONG_FOR_S: Final = 5.0
"""How long a wrong token stays wrong without another look; it may be one that is not valid yet."""

_LONGEST_TOKEN: Final = 8 << 10
_LEEWAY_S: Final = 10
_OPTIONS: Final[Options] = {"require": ["exp", "iss", "aud"]}


class TokenVerifier:
    """Verifies tokens of one issuer; a good one is remembered by its hash, so that its signature is checked once.

    A wrong one is remembered for some seconds, for it costs as much and comes as often.

    Args:
        issuer: Whose tokens, and how they are signed.
        folder: Where files with relative names are.
        limit: How often one subject may ask, None for no limit.
        former: The verifier before this one; where issuer and limit are the same, its buckets are kept.
        steady_s: Seconds of a clock that never goes back.

    Raises:
        ConfigurationError: If the key file cannot be read, or is no key for these algorithms.
    """

    def __init__(
        self,
        issuer: TokenIssuer,
        *,
        folder: Path,
        limit: RateLimit | None,
        former: Self | None = None,
        steady_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._issuer = issuer
        self._limit = limit
        self._keys = _read_keys(issuer, folder / issuer.key_file)
        self._known: OrderedDict[bytes, Principal] = OrderedDict()
        self._wrong: OrderedDict[bytes, float] = OrderedDict()
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()
        if former is not None and former._limit == limit and former._issuer.issuer == issuer.issuer:
            self._buckets = former._buckets
        self._steady_s = steady_s

    def find(self, token: bytes, digest: bytes) -> Principal | None:
        """Return who holds a token, None if it is not good.

        Args:
            token: As it came.
            digest: Its SHA-256.
        """
        known = self._known.get(digest)
        if known is not None:
            self._known.move_to_end(digest)
            return known
        if len(token) > _LONGEST_TOKEN or token.count(b".") != 2:
            return None
        if self._steady_s() < self._wrong.get(digest, 0.0):
            return None
        claims = self._verify(token)
        if claims is None:
            _remember(self._wrong, digest, self._steady_s() + _WRONG_FOR_S)
            return None
        said = claims.get(self._issuer.role_claim)
        said = said if isinstance(said, list) else [said]
        roles: frozenset[Role] = frozenset(role for role in ROLES if role in said)
        ends_at_s = float(claims["exp"]) + _LEEWAY_S
        bucket = self._bucket(str(claims.get("sub", "")))
        principal = Principal(f"token of {self._issuer.issuer}", roles, ends_at_s, bucket)
        _remember(self._known, digest, principal)
        return principal

    def _verify(self, token: bytes) -> dict[str, Any] | None:
        try:
            key = self._keys.get(None) or self._keys[jwt.get_unverified_header(token).get("kid")]
            return jwt.decode(
                token,
                key,
                algorithms=self._issuer.algorithms,
                audience=self._issuer.audience,
                issuer=self._issuer.issuer,
                leeway=_LEEWAY_S,
                options=_OPTIONS,
            )
        except (jwt.PyJWTError, KeyError, ValueError, TypeError):
            # whoever sent it may have put anything in it: nothing of it goes into the log
            return None

    def _bucket(self, subject: str) -> TokenBucket | None:
        if self._limit is None:
            return None
        bucket = self._buckets.get(subject)
        if bucket is None:
            bucket = TokenBucket(self._limit)
        _remember(self._buckets, subject, bucket)
        return bucket


def _remember(known: OrderedDict[Any, Any], key: Any, value: Any) -> None:
    known[key] = value
    known.move_to_end(key)
    if len(known) > _REMEMBERED:
        known.popitem(last=False)


def _read_keys(issuer: TokenIssuer, file: Path) -> dict[str | None, Any]:
    """Return keys by ``kid``; a key that stands alone is for every token, under None."""
    try:
        content = file.read_bytes()
        if issuer.jwks:
            keys = jwt.PyJWKSet.from_json(content.decode()).keys
            return {key.key_id: key for key in keys if key.key_id is not None} if len(keys) > 1 else {None: keys[0]}
        if issuer.secret_file:
            secret = content.strip()
            needed = max(int(name[2:]) // 8 for name in issuer.algorithms)
            if len(secret) < needed:
                raise ConfigurationError(
                    f"{file} holds {len(secret)} bytes: a secret for these algorithms has at least {needed}"
                )
            return {None: secret}
        for name in issuer.algorithms:
            key = jwt.get_algorithm_by_name(name).prepare_key(content)
            if hasattr(key, "private_bytes"):
                raise ConfigurationError(f"{file} holds a private key: the endpoint needs the public one only")
        return {None: content}
    except (OSError, UnicodeDecodeError, ValueError, TypeError, jwt.PyJWTError, NotImplementedError) as error:
        raise ConfigurationError(f"key file of tokens {file} cannot be used: {error}") from None
