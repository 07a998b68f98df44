"""The few calls of GitHub's REST API that the action makes, answered on the loopback interface."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Hub:
    def __init__(self) -> None:
        self.comments: list[dict[str, Any]] = []
        self.artifacts: list[dict[str, Any]] = []
        self.archives: dict[int, bytes] = {}
        self.read_only = False
        self.calls: list[tuple[str, str]] = []
        self.url = ""

    def answer(self, method: str, path: str, body: dict[str, Any] | None) -> tuple[int, bytes]:
        """Status and body, as GitHub's documentation describes them for each call."""
        self.calls.append((method, path))
        route, _, query = path.partition("?")
        parts = route.strip("/").split("/")[3:]
        if method != "GET" and self.read_only:
            return 403, b'{"message": "Resource not accessible by integration"}'
        if method == "GET" and parts[-1] == "comments":
            page = int(query.rpartition("page=")[2] or 1)
            return 200, json.dumps(self.comments[(page - 1) * 100 : page * 100]).encode()
        if method == "POST" and parts[-1] == "comments" and body:
            comment = {"id": len(self.comments) + 1, "body": body["body"], "user": {"type": "Bot"}}
            self.comments.append(comment)
            return 201, json.dumps(comment).encode()
        if method == "PATCH" and body:
            comment = next(c for c in self.comments if c["id"] == int(parts[-1]))
            comment["body"] = body["body"]
            return 200, json.dumps(comment).encode()
        if parts[-1] == "artifacts":
            name = query.rpartition("name=")[2]
            found = [a for a in self.artifacts if a["name"] == name]
            return 200, json.dumps({"total_count": len(found), "artifacts": found}).encode()
        if parts[-1] == "zip":
            return 200, self.archives[int(parts[-2])]
        return 404, b"{}"


@contextmanager
def serve() -> Iterator[Hub]:
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def _do(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            status, data = hub.answer(self.command, self.path, body)
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PATCH = _do  # noqa: N815

        def log_message(self, *arguments: object) -> None:
            """Keep the test's output quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
