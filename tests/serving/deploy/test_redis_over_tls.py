"""A Redis elsewhere is spoken to over TLS, and only if its certificate is that of a known authority."""

import datetime
import ipaddress
import socket
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from roomrec.errors import StateError
from serving.settings import Settings
from serving.state.opening import open_state
from serving.state.redis_connection import RedisConnection
from tests.serving.state.redis_server import running


def write_certificate(folder: Path) -> None:
    """A certificate of 127.0.0.1 that is its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "redis")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "tls.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "tls.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


def test_log_and_state_over_tls(tmp_path: Path) -> None:
    write_certificate(tmp_path)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = {
        "bind": "127.0.0.1",
        "tls-port": str(port),
        "tls-cert-file": str(tmp_path / "tls.crt"),
        "tls-key-file": str(tmp_path / "tls.key"),
        "tls-ca-cert-file": str(tmp_path / "tls.crt"),
        "tls-auth-clients": "no",
    }
    with running(**options):
        url = f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={tmp_path}/tls.crt"
        settings = Settings(event_log="redis", state_store="redis", redis_url=url, data=str(tmp_path / "serving"))
        opened = open_state(settings)
        event = {"event_id": "e1", "event_type": "room_start", "occurred_at_ms": 1, "received_at_ms": 1}
        opened.appended.append([event | {"room_id": "r1", "streamer_id": "mia"}])
        opened.store.catch_up()
        assert opened.store.position().applied_seq == 1
        opened.close()
        stranger = RedisConnection(f"rediss://127.0.0.1:{port}/0", prefix="roomrec", timeout_ms=1_000)
        with pytest.raises(StateError, match="certificate verify failed"):
            stranger.check(durability="always")
        stranger.close()
