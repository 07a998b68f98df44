"""TLS: a certificate that is known works, one that is not has a name in the result."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
import threading
import time

import pytest

from pytest_slmperf.load.http.run_clients import drive
from pytest_slmperf.load.latencies import measure
from pytest_slmperf.load.plan import LoadPlan, Target
from pytest_slmperf.load.rows import PlannedRequest

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def event(text: str, finish: str | None) -> bytes:
    data = b"data: " + json.dumps({"choices": [{"text": text, "finish_reason": finish}]}).encode() + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(data), data)


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    key, certificate = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    listener = socket.create_server(("127.0.0.1", 0))

    def answer(raw: socket.socket) -> None:
        try:
            with context.wrap_socket(raw, server_side=True) as connection:
                while connection.recv(65536):
                    connection.sendall(HEAD + event("a", None))
                    time.sleep(0.05)
                    # two events in one TLS record and a third behind it: more decrypted bytes than the kernel tells of
                    connection.sendall(event("b", None) + event("c", None))
                    connection.sendall(event("d", "length") + b"0\r\n\r\n")
        except (ssl.SSLError, OSError):
            raw.close()

    def serve() -> None:
        while True:
            try:
                raw, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(raw,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    yield f"https://localhost:{listener.getsockname()[1]}", str(certificate)
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def played(target: Target):
    load = LoadPlan(
        [PlannedRequest(k, "{}", n_out=4) for k in range(6)], loop="closed", concurrency=2, stall_timeout_s=2.0
    )
    return measure(drive(target, load))


def test_known_certificate(endpoint):
    url, certificate = endpoint
    result = played(Target(url, key_env=None, ca_file=certificate))
    assert result.counts["completed"] == 6, (result.failures, result.examples)
    assert 45 < result.values["e2el_mean"] - result.values["ttft_mean"] < 500


def test_insecure_only_when_asked_for(endpoint):
    url, _ = endpoint
    assert played(Target(url, key_env=None)).failures == {"tls_certificate": 6}
    assert played(Target(url, key_env=None, insecure=True)).counts["completed"] == 6
