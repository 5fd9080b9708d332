"""The faults of an S3 server: a proxy before the real one, which refuses the requests that a test names."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from s3_server import S3Server


@dataclass(frozen=True)
class Request:
    """What a client asks: its method, path with query, headers by name in lower case, and the how many-th it is."""

    method: str
    path: str
    headers: dict[str, str]
    number: int

    @property
    def writes(self) -> bool:
        return self.method in {"PUT", "POST", "DELETE"}

    @property
    def deletes(self) -> bool:
        return self.method == "DELETE" or "?delete" in self.path


# Status and code of the refusal; None lets a request through.
Refusal = Callable[[Request], tuple[int, str] | None]


@contextmanager
def faulty(server: S3Server, refusal: Refusal) -> Iterator[str]:
    """Yields the endpoint of a server that answers as the real one does, but for what it refuses."""
    count = iter(range(1, 1_000_000))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def answer(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = self.rfile.read(int(headers.get("content-length", 0)))
            if found := refusal(Request(self.command, self.path, headers, next(count))):
                status, code = found
                # The answer to a HEAD request has no text.
                text = b"" if self.command == "HEAD" else f"<Error><Code>{code}</Code></Error>".encode()
                self.send(status, {"Content-Type": "application/xml"}, text, len(text))
                return
            upstream = http.client.HTTPConnection(urlsplit(server.endpoint).netloc, timeout=60)
            upstream.request(self.command, self.path, body, dict(self.headers.items()))
            response = upstream.getresponse()
            content = response.read()
            size = int(response.getheader("Content-Length") or 0) if self.command == "HEAD" else len(content)
            kept = {name: it for name, it in response.getheaders() if name.lower() not in _OF_CONNECTION}
            self.send(response.status, kept, content, size)
            upstream.close()

        def send(self, status: int, headers: dict[str, str], content: bytes, size: int) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(size)}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer  # noqa: N815  (of http.server)

    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=proxy.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{proxy.server_port}"
    finally:
        proxy.shutdown()
        thread.join()
        proxy.server_close()


_OF_CONNECTION = {"transfer-encoding", "content-length", "connection", "date", "server"}
