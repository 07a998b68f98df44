"""What a broken client sends ends its own connection, and never the mock server."""

import json
import socket
import urllib.request
from urllib.parse import urlsplit

import pytest

from pytest_slmperf.contrib.mock_server.plan import MockPlan
from pytest_slmperf.contrib.mock_server.process import MockServer


@pytest.fixture(scope="module")
def server():
    with MockServer(MockPlan(ttft_s=0.001, itl_s=0.001)) as running:
        yield running


def answer(server, data):
    """What comes back for these bytes, up to the first answer's end or the connection's."""
    place = urlsplit(server.url)
    with socket.create_connection((place.hostname, place.port), timeout=20) as client:
        client.sendall(data)
        return client.recv(4096)


def request(body, length=None):
    head = f"POST /v1/completions HTTP/1.1\r\nContent-Length: {len(body) if length is None else length}\r\n\r\n"
    return head.encode() + body


BROKEN = {
    "length in words": request(b"{}", "abc"),
    "negative length": request(b"{}", "-1"),
    "length of 5,000 digits": request(b"{}", "9" * 5000),
    "deep body": request(b"[" * 100_000),
    "list": request(b"[1]"),
    "tokens without end": request(b'{"max_tokens": Infinity}'),
    "not a number": request(b'{"max_tokens": NaN}'),
    "more tokens than a model has": request(b'{"max_tokens": 1000000000000}'),
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=list(BROKEN))
def test_a_broken_request_is_refused_and_the_server_answers_the_next(server, data):
    assert answer(server, data).startswith(b"HTTP/1.1 400 ")
    with urllib.request.urlopen(f"{server.url.removesuffix('/v1')}/v1/models", timeout=20) as found:
        assert json.load(found)["object"] == "list"
