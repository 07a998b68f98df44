"""An endpoint as a client process needs it: an address that answers, a TLS context, the head of each request."""

from __future__ import annotations

import socket
import ssl
from typing import Any

from pytest_slmperf.load.plan import Target


def reachable(host: str, port: int) -> tuple[int, Any]:
    """Family and address of ``host``; of several (localhost: ::1 and 127.0.0.1) the first that takes a connection."""
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for family, _, _, _, address in addresses if len(addresses) > 1 else ():
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.settimeout(2.0)
            if probe.connect_ex(address) == 0:
                return int(family), address
    return int(addresses[0][0]), addresses[0][4]


def tls_context(target: Target) -> ssl.SSLContext:
    """The context of an endpoint behind https; checks nothing where the target is ``insecure``."""
    context = ssl.create_default_context(cafile=target.ca_file)
    if target.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def request_head(target: Target, key: str | None) -> bytes:
    """The head of every request up to the value of Content-Length, which comes last."""
    path = target.path("chat/completions" if target.api == "chat" else "completions")
    headers = {"Content-Type": "application/json", "Accept": "text/event-stream", **dict(target.headers)}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    lines = [f"POST {path} HTTP/1.1", f"Host: {target.netloc}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\nContent-Length: ").encode("latin-1")
