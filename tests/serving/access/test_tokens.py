import base64
import hashlib
import hmac
import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from roomrec.errors import ConfigurationError
from serving.access import tokens
from serving.access.guard import Guard

SECRET = "s" * 64
NOW_S = int(time.time())  # of the import: a whole run of the tests may lie between it and a test
CLAIMS = {"iss": "https://login", "aud": "roomrec", "sub": "web", "role": "frontend", "exp": NOW_S + 86_400}
_OLD, _NEW = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))


def write(tmp_path: Path, more: str) -> Path:
    (tmp_path / "secret").write_text(SECRET + "\n")
    (tmp_path / "issuer.pem").write_bytes(
        _OLD.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    path = tmp_path / "access.toml"
    path.write_text(f'[tokens]\nissuer = "https://login"\naudience = "roomrec"\n{more}\n')
    return path


def secret_guard(tmp_path: Path, more: str = "", **clock: Any) -> Guard:
    return Guard(write(tmp_path, f'algorithms = ["HS256"]\nsecret_file = "secret"\n{more}'), **clock)


def ask(guard: Guard, token: str, method: str = "POST", path: str = "/v1/recommendations") -> int:
    refusal = guard.check(method, path, {b"authorization": b"Bearer " + token.encode()})
    return 200 if refusal is None else refusal.status


def sign(key: Any = SECRET, algorithm: str = "HS256", headers: dict[str, str] | None = None, **claims: Any) -> str:
    said = {name: value for name, value in (CLAIMS | claims).items() if value is not None}
    return jwt.encode(said, key, algorithm, headers=headers)


def test_a_good_token_is_let_in_for_its_roles(tmp_path: Path) -> None:
    guard = secret_guard(tmp_path)
    assert ask(guard, sign()) == 200
    assert ask(guard, sign(), "GET", "/v1/models") == 403
    assert ask(guard, sign(role=["auditor", "frontend", "cleaner"])) == 200
    assert ask(guard, sign(role=["auditor", "frontend", "cleaner"]), "GET", "/v1/models") == 200
    for role in ("cleaner", None, 3, [], [["frontend"]], {"frontend": True}):
        assert ask(guard, sign(role=role)) == 403


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://other"},
        {"iss": None},
        {"aud": "shop"},
        {"aud": None},
        {"exp": NOW_S - 60},
        {"exp": None},
        {"nbf": NOW_S + 86_400},
        {"key": "t" * 64},
        {"algorithm": "HS512"},
    ],
)
def test_a_token_of_another_kind_is_refused(tmp_path: Path, claims: dict[str, Any]) -> None:
    assert ask(secret_guard(tmp_path), sign(**claims)) == 401


def test_a_token_cannot_choose_how_it_is_verified(tmp_path: Path) -> None:
    unsigned = jwt.encode(CLAIMS, "", "none")
    assert ask(secret_guard(tmp_path), unsigned) == 401
    guard = Guard(write(tmp_path, 'algorithms = ["RS256"]\npublic_key = "issuer.pem"'))
    assert ask(guard, sign(_OLD, "RS256")) == 200
    assert ask(guard, sign(_NEW, "RS256")) == 401
    assert ask(guard, unsigned) == 401
    # the public key taken for a shared secret
    head, body, _ = sign().split(".")
    mac = hmac.digest((tmp_path / "issuer.pem").read_bytes(), f"{head}.{body}".encode(), hashlib.sha256)
    assert ask(guard, f"{head}.{body}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}") == 401


@pytest.mark.parametrize("token", ["..", "a.b.c", "e30.e30.e30", "é.ü.ö", "x" * 9_000 + "..", '{"a":1}.{}.x'])
def test_nonsense_is_refused(tmp_path: Path, token: str) -> None:
    assert ask(secret_guard(tmp_path), token) == 401


def test_a_remembered_token_still_ends(tmp_path: Path) -> None:
    started_s = int(time.time())
    now_s = [float(started_s)]
    guard = secret_guard(tmp_path, clock_s=lambda: now_s[0])
    token = sign(exp=started_s + 60)
    assert ask(guard, token) == 200
    now_s[0] += 69
    assert ask(guard, token) == 200  # clocks may differ by ten seconds
    now_s[0] += 1
    assert ask(guard, token) == 401


def test_keys_of_a_set_are_told_apart_by_kid(tmp_path: Path) -> None:
    jwks = [json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key())) for key in (_OLD, _NEW)]
    keys = [jwk | {"kid": kid, "alg": "RS256", "use": "sig"} for kid, jwk in zip(("old", "new"), jwks, strict=True)]
    (tmp_path / "jwks.json").write_text(json.dumps({"keys": keys}))
    guard = Guard(write(tmp_path, 'algorithms = ["RS256"]\njwks = "jwks.json"'))
    assert ask(guard, sign(_OLD, "RS256", {"kid": "old"})) == 200
    assert ask(guard, sign(_NEW, "RS256", {"kid": "new"})) == 200
    assert ask(guard, sign(_NEW, "RS256", {"kid": "old"})) == 401
    assert ask(guard, sign(_NEW, "RS256", {"kid": "gone"})) == 401
    assert ask(guard, sign(_NEW, "RS256")) == 401


def test_a_set_that_was_replaced_is_read_again_and_old_tokens_end(tmp_path: Path) -> None:
    def publish(key: rsa.RSAPrivateKey) -> None:
        jwk = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key())) | {"kid": "only", "alg": "RS256"}
        (tmp_path / "jwks.new").write_text(json.dumps({"keys": [jwk]}))
        (tmp_path / "jwks.new").replace(tmp_path / "jwks.json")

    publish(_OLD)
    now_s = [0.0]
    guard = Guard(write(tmp_path, 'algorithms = ["RS256"]\njwks = "jwks.json"'), steady_s=lambda: now_s[0])
    token = sign(_OLD, "RS256", {"kid": "only"})
    assert ask(guard, token) == 200
    publish(_NEW)
    now_s[0] += 1
    assert ask(guard, token) == 401
    assert ask(guard, sign(_NEW, "RS256", {"kid": "only"})) == 200


def test_each_subject_has_a_limit_and_little_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "_REMEMBERED", 3)
    guard = secret_guard(tmp_path, "requests_per_s = 1\nburst = 2", steady_s=lambda: 5.0)
    assert [ask(guard, sign(sub="web", jti=str(number))) for number in range(3)] == [200, 200, 429]
    assert ask(guard, sign(sub="app")) == 200
    for number in range(10):
        ask(guard, sign(sub=f"s{number}"))
    assert guard._tokens is not None
    assert len(guard._tokens._known) == len(guard._tokens._buckets) == 3


def test_a_signature_is_verified_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guard = secret_guard(tmp_path)
    token = sign()
    assert ask(guard, token) == 200
    monkeypatch.setattr(tokens.jwt, "decode", lambda *_, **__: pytest.fail("verified again"))
    assert ask(guard, token) == 200


def test_a_wrong_token_costs_a_signature_every_five_seconds_and_may_become_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = [0.0]
    guard = secret_guard(tmp_path, steady_s=lambda: now_s[0])
    early = sign(nbf=NOW_S + 86_400)
    assert ask(guard, early) == 401
    with monkeypatch.context() as patch:
        patch.setattr(tokens.jwt, "decode", lambda *_, **__: pytest.fail("verified again"))
        now_s[0] = 4.9
        assert ask(guard, early) == 401
        assert not guard.knows({b"authorization": b"Bearer " + early.encode()})
    monkeypatch.setattr(tokens.jwt, "decode", lambda *_, **__: CLAIMS)  # its hour has come
    assert ask(guard, early) == 401
    now_s[0] = 5.0
    assert ask(guard, early) == 200


def test_little_is_remembered_of_wrong_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "_REMEMBERED", 3)
    guard = secret_guard(tmp_path)
    for number in range(10):
        assert ask(guard, sign(key="t" * 64, jti=str(number))) == 401
    assert guard._tokens is not None
    assert len(guard._tokens._wrong) == 3
    assert ask(guard, sign()) == 200


def test_a_changed_file_fills_no_subjects_bucket_unless_its_limit_is_another(tmp_path: Path) -> None:
    now_s = [0.0]
    guard = secret_guard(tmp_path, "requests_per_s = 0.001\nburst = 2", steady_s=lambda: now_s[0])
    path = tmp_path / "access.toml"
    assert [ask(guard, sign(jti=str(number))) for number in range(3)] == [200, 200, 429]
    path.write_text(path.read_text() + "# touched\n")
    now_s[0] += 1
    assert [ask(guard, sign(jti=str(number))) for number in range(4)] == [429] * 4
    assert ask(guard, sign(sub="another")) == 200
    path.write_text(path.read_text().replace("burst = 2", "burst = 3"))
    now_s[0] += 1
    assert [ask(guard, sign(jti=str(number))) for number in range(4)] == [200, 200, 200, 429]


def test_key_files_that_cannot_work_are_refused(tmp_path: Path) -> None:
    (tmp_path / "short").write_text("s" * 31)
    with pytest.raises(ConfigurationError, match="31 bytes: a secret for these algorithms has at least 32"):
        Guard(write(tmp_path, 'algorithms = ["HS256"]\nsecret_file = "short"'))
    with pytest.raises(ConfigurationError, match="cannot be used"):
        Guard(write(tmp_path, 'algorithms = ["RS256"]\npublic_key = "secret"'))
    private = _OLD.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "private.pem").write_bytes(private)
    with pytest.raises(ConfigurationError, match="private key"):
        Guard(write(tmp_path, 'algorithms = ["RS256"]\npublic_key = "private.pem"'))
    curve = ec.generate_private_key(ec.SECP256R1()).public_key()
    (tmp_path / "curve.pem").write_bytes(curve.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(ConfigurationError, match="cannot be used"):
        Guard(write(tmp_path, 'algorithms = ["RS256"]\npublic_key = "curve.pem"'))
    (tmp_path / "empty.json").write_text('{"keys": []}')
    with pytest.raises(ConfigurationError, match="cannot be used"):
        Guard(write(tmp_path, 'algorithms = ["RS256"]\njwks = "empty.json"'))
