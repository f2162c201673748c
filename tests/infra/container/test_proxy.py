"""The proxy as a real Caddy with our file: TLS, who a client is, what is not shown, how much is taken, what is passed on at once."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from app.demo import _port
from webhooks.receive import LARGEST_BODY

ROOT = Path(__file__).parents[3]
CADDYFILE = ROOT / "infra" / "container" / "Caddyfile"
CADDY = shutil.which("caddy") or shutil.which("caddy", path=ROOT / ".cache" / "caddy" / "usr" / "bin")

pytestmark = pytest.mark.skipif(CADDY is None, reason="there is no Caddy here: .ci/run fetches Debian's")


class Service(BaseHTTPRequestHandler):
    """Says what it heard. `/stream` sends one event and waits."""

    protocol_version = "HTTP/1.1"
    waits = threading.Event()

    def do_GET(self) -> None:
        if self.path == "/stream":
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(b"data: first\n\n")
            self.wfile.flush()
            self.waits.wait(20)
            return
        size = 0
        left = int(self.headers.get("Content-Length") or 0)
        while left and (piece := self.rfile.read(min(left, 1 << 16))):
            size += len(piece)
            left -= len(piece)
        told = json.dumps({"path": self.path, "size": size, "headers": dict(self.headers.items())}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        with suppress(BrokenPipeError):
            self.wfile.write(told)

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        pass


@dataclass(frozen=True)
class Proxy:
    https: int
    http: int
    trusted: ssl.SSLContext

    def ask(
        self, method: str, path: str, body: bytes = b"", **headers: str
    ) -> tuple[int, Any, dict[str, str]]:
        """The path goes out as it stands."""
        connection = http.client.HTTPSConnection("localhost", self.https, timeout=30, context=self.trusted)
        try:
            connection.putrequest(method, path, skip_accept_encoding=True)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                connection.putheader(name.replace("_", "-"), value)
            with suppress(BrokenPipeError, ConnectionResetError):  # it has answered, and reads no further
                connection.endheaders(body)
            answer = connection.getresponse()
            said = answer.read()
            told = json.loads(said) if answer.status == 200 else None
            return answer.status, told, {name.lower(): value for name, value in answer.getheaders()}
        finally:
            connection.close()


@pytest.fixture(scope="module")
def ports() -> Iterator[tuple[int, int]]:
    with _port() as secure, _port() as plain:
        yield secure, plain


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory, ports: tuple[int, int]) -> Iterator[Proxy]:
    folder = tmp_path_factory.mktemp("caddy")
    service = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    thread = threading.Thread(target=service.serve_forever)
    thread.start()
    Service.waits.clear()
    secure, plain = ports
    environ = {
        "PUBLIC_HOST": "localhost",
        "WEB": f"127.0.0.1:{service.server_port}",
        "HTTPS_PORT": str(secure),
        "HTTP_PORT": str(plain),
        "XDG_DATA_HOME": str(folder / "data"),
        "XDG_CONFIG_HOME": str(folder / "config"),
    }
    command = [str(CADDY), "run", "--config", str(CADDYFILE), "--adapter", "caddyfile"]
    log = folder / "log"
    with log.open("wb") as said:
        process = subprocess.Popen(command, env=environ, cwd=folder, stdout=said, stderr=said)
    try:
        root = folder / "data" / "caddy" / "pki" / "authorities" / "local" / "root.crt"
        yield Proxy(secure, plain, trusting(root, secure, process, log))
    finally:
        Service.waits.set()
        process.terminate()
        process.wait(20)
        service.shutdown()
        thread.join()
        service.server_close()


def trusting(root: Path, port: int, process: subprocess.Popen[bytes], log: Path) -> ssl.SSLContext:
    """Once it answers with the certificate that it has made for itself."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            context = ssl.create_default_context(cafile=str(root))
            with socket.create_connection(("localhost", port), 5) as plain:
                context.wrap_socket(plain, server_hostname="localhost").close()
        except OSError:
            time.sleep(0.1)
        else:
            return context
    raise TimeoutError(log.read_text())


def test_what_comes_by_tls_goes_to_the_service_and_what_comes_without_is_sent_there(proxy: Proxy) -> None:
    status, told, headers = proxy.ask("GET", "/installations?account=octo")
    assert (status, told["path"]) == (200, "/installations?account=octo")
    assert headers["strict-transport-security"] == "max-age=31536000"
    connection = http.client.HTTPConnection("localhost", proxy.http, timeout=10)
    connection.request("GET", "/installations")
    answer = connection.getresponse()
    assert answer.status == 308
    assert str(answer.headers["Location"]).startswith("https://localhost")
    connection.close()


def test_a_client_says_nothing_about_who_it_is(proxy: Proxy) -> None:
    claims = {
        "X_Forwarded_For": "203.0.113.9",
        "X_Forwarded_Proto": "http",
        "X_Forwarded_Host": "evil.example",
        "X_Real_IP": "203.0.113.9",
        "Forwarded": "for=203.0.113.9",
    }
    _, told, _ = proxy.ask("GET", "/", **claims)
    heard = {name.lower(): value for name, value in told["headers"].items()}
    assert heard["x-forwarded-for"] in ("127.0.0.1", "::1")
    assert heard["x-forwarded-proto"] == "https"
    assert "203.0.113.9" not in json.dumps(heard)
    assert "evil.example" not in json.dumps(heard)


@pytest.mark.parametrize(
    "path",
    ["/metrics", "/metrics/", "/metrics/x", "/metrics?x=1", "/METRICS", "/%6detrics", "//metrics", "/./metrics", "/x/../metrics", "/metrics%2f"],
)  # fmt: skip
def test_metrics_are_shown_to_nobody(proxy: Proxy, path: str) -> None:
    status, told, _ = proxy.ask("GET", path)
    # The service goes by the decoded path and no other: what is passed on all the same is a path at which it has nothing.
    assert status == 404 or unquote(told["path"].partition("?")[0]) != "/metrics"
    assert status == 404 or path not in ("/metrics", "/metrics/", "/metrics/x", "/metrics?x=1")


@pytest.mark.parametrize("path", ["/metricsx", "/installations/7/metrics", "/healthz"])
def test_what_is_only_called_alike_is_passed_on(proxy: Proxy, path: str) -> None:
    assert proxy.ask("GET", path)[1]["path"] == path


def test_as_much_is_taken_as_the_service_takes_and_not_a_byte_more(proxy: Proxy) -> None:
    status, told, _ = proxy.ask("POST", "/webhooks/github", bytes(LARGEST_BODY))
    assert (status, told["size"]) == (200, LARGEST_BODY)
    # Debian's Caddy 2.6.2 says 502 of a body that it breaks off.
    assert proxy.ask("POST", "/webhooks/github", bytes(LARGEST_BODY + 1))[0] in (413, 502)


def test_what_is_told_of_a_run_comes_at_once(proxy: Proxy) -> None:
    connection = http.client.HTTPSConnection("localhost", proxy.https, timeout=10, context=proxy.trusted)
    connection.request("GET", "/stream")
    answer = connection.getresponse()
    assert answer.read(13) == b"data: first\n\n"
    assert not Service.waits.is_set()
    connection.close()


def test_the_file_is_written_as_caddy_writes_it() -> None:
    done = subprocess.run([str(CADDY), "fmt", str(CADDYFILE)], capture_output=True, text=True, check=False)
    assert done.stdout == CADDYFILE.read_text()
