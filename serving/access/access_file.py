"""The access file: keys by their hashes, and whose tokens to trust."""

import hashlib
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from roomrec.errors import ConfigurationError
from serving.access.rate_limits import RateLimit
from serving.access.roles import Role

KEY_PREFIX: Final = "roomrec_"
"""How keys begin, so that scanners for leaked secrets know one when they see it."""

_HEX_CHARACTERS: Final = 64


class Key(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One key; the file knows its hash only.

    Attributes:
        name: Whose it is.
        role: What it may be used for.
        sha256: Hash of the key, 64 hexadecimal characters. Keys are 256 random bits, so there is nothing to guess and
            no need for a slow hash.
        requests_per_s: Requests a second over all replicas; the file's default if left out.
        burst: How many may come at once over all replicas.
        expires: When it ends, with a time zone; never if left out.
    """

    name: str
    role: Role
    sha256: str
    requests_per_s: float | None = None
    burst: float | None = None
    expires: datetime | None = None


class TokenIssuer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose JSON Web Tokens to trust, and how to verify them; one of the three files is named.

    Attributes:
        issuer: What ``iss`` must say.
        audience: What ``aud`` must say.
        algorithms: Algorithms that are accepted, for example ``["RS256"]``; what a token says of itself does not count.
        role_claim: Claim that holds one role or a list of roles.
        public_key: PEM file.
        jwks: File with a JSON Web Key Set.
        secret_file: File with the shared secret of HS256 and its like, at least 32 bytes.
        requests_per_s: Requests a second of one ``sub`` over all replicas; the file's default if left out.
        burst: How many may come at once over all replicas.
    """

    issuer: str
    audience: str
    algorithms: list[str]
    role_claim: str = "role"
    public_key: str = ""
    jwks: str = ""
    secret_file: str = ""
    requests_per_s: float | None = None
    burst: float | None = None

    @property
    def key_file(self) -> str:
        """The file that says how to verify."""
        return self.public_key or self.jwks or self.secret_file


class AccessFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the file says.

    Attributes:
        keys: The keys.
        tokens: Whose tokens to trust, None for nobody's.
        requests_per_s: Default limit over all replicas; None for no limit.
        burst: Default burst; as many as a second allows if left out.
    """

    keys: list[Key] = msgspec.field(default_factory=list)
    tokens: TokenIssuer | None = None
    requests_per_s: float | None = None
    burst: float | None = None

    def limit_of(self, holder: Key | TokenIssuer) -> RateLimit | None:
        """Return the limit of a key or of each holder of a token, over all replicas; None for none."""
        rate = self.requests_per_s if holder.requests_per_s is None else holder.requests_per_s
        if rate is None:
            return None
        burst = self.burst if holder.burst is None and holder.requests_per_s is None else holder.burst
        return RateLimit(rate, max(1.0, rate) if burst is None else burst)


def read_access_file(path: Path) -> AccessFile:
    """Read an access file, TOML or, if its name ends in ``.json``, JSON.

    Raises:
        ConfigurationError: If it cannot be read, or something in it makes no sense; keys are never repeated.
    """
    try:
        text = path.read_bytes()
        decode = msgspec.json.decode if path.suffix == ".json" else msgspec.toml.decode
        said = decode(text, type=AccessFile)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"access file {path} cannot be read: {error}") from None
    names, digests = set[str](), set[str]()
    for number, key in enumerate(said.keys, 1):
        where = f"access file {path}: keys[{number}] ({key.name})"
        if not key.name or key.name in names:
            raise ConfigurationError(f"{where}: every key needs a name of its own")
        if len(key.sha256) != _HEX_CHARACTERS or not set(key.sha256) <= set("0123456789abcdef"):
            raise ConfigurationError(
                f"{where}: sha256 must be 64 characters of 0-9 and a-f; `python -m serving make-key` prints them"
            )
        if key.sha256 in digests:
            raise ConfigurationError(f"{where}: another name has the same key")
        if key.expires is not None and key.expires.tzinfo is None:
            raise ConfigurationError(f"{where}: expires needs a time zone, for example 2027-01-31T00:00:00Z")
        names.add(key.name)
        digests.add(key.sha256)
    _check_limits(path, said)
    if said.tokens is not None:
        _check_tokens(path, said.tokens)
    return said


def hash_key(key: str) -> str:
    """Return what the access file knows of a key."""
    return hashlib.sha256(key.encode()).hexdigest()


def _check_limits(path: Path, said: AccessFile) -> None:
    holders = [("", said), *((f"keys ({key.name}) ", key) for key in said.keys)]
    if said.tokens is not None:
        holders.append(("tokens ", said.tokens))
    for name, holder in holders:
        rate, burst = holder.requests_per_s, holder.burst
        if rate is not None and not 0 < rate < float("inf"):
            raise ConfigurationError(f"access file {path}: {name}requests_per_s must be above 0, received {rate}")
        if burst is not None and not 1 <= burst < float("inf"):
            raise ConfigurationError(f"access file {path}: {name}burst must be at least 1, received {burst}")


def _check_tokens(path: Path, tokens: TokenIssuer) -> None:
    where = f"access file {path}: tokens"
    if sum(map(bool, (tokens.public_key, tokens.jwks, tokens.secret_file))) != 1:
        raise ConfigurationError(f"{where} needs one of public_key, jwks and secret_file")
    if not tokens.issuer or not tokens.audience:
        raise ConfigurationError(f"{where} needs issuer and audience")
    for algorithm in tokens.algorithms or [""]:
        if algorithm[:2] not in ({"HS"} if tokens.secret_file else {"RS", "PS", "ES", "Ed"}):
            fitting = "HS256" if tokens.secret_file else "RS256, PS256, ES256 or EdDSA"
            raise ConfigurationError(f"{where}.algorithms holds {algorithm!r}: with this key use {fitting}")
