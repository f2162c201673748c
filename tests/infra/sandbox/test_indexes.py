"""The way to the package indexes: to them, while installing, and nowhere else."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import ipaddress
import socket
import ssl
import threading
import zipfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from app.change import open_checks
from app.nouns import FileEdit, RoomLimits
from app.repofile import RepoFile
from infra.sandbox.bubblewrap import BubblewrapSandbox
from infra.sandbox.indexes import DEFAULT, Index, serve
from tests.app.tree import Tree

Kit = Any


@asynccontextmanager
async def far(answer: bytes = b"hello") -> AsyncIterator[int]:
    """A server on this machine that says something to whoever connects, then echoes; its port."""

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        while data := await reader.read(1000):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(say, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@asynccontextmanager
async def proxy(*indexes: Index, most_bytes: int = 1 << 20) -> AsyncIterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as port:
        number = port.getsockname()[1]
        async with serve(port, indexes, most_bytes=most_bytes):
            yield number


async def ask(port: int, head: str, then: bytes = b"") -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(head.encode() + then)
        writer.write_eof()
        async with asyncio.timeout(5):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.transport.abort()


def connect(host: str, port: int) -> str:
    return f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n"


async def test_a_listed_index_is_reached() -> None:
    async with far() as index, proxy(Index("localhost", index, private=True)) as port:
        answer = await ask(port, connect("LocalHost.", index), b"and back")
    assert answer == b"HTTP/1.1 200 Connection established\r\n\r\nhelloand back"


@pytest.mark.parametrize(
    "head",
    [
        "CONNECT example.com:443 HTTP/1.1\r\n\r\n",
        "CONNECT localhost:{other} HTTP/1.1\r\n\r\n",
        "CONNECT 127.0.0.1:{index} HTTP/1.1\r\n\r\n",
        "CONNECT localhost:{index}.evil.example:443 HTTP/1.1\r\n\r\n",
        "CONNECT evil.localhost:{index} HTTP/1.1\r\n\r\n",
        "CONNECT localhost: HTTP/1.1\r\n\r\n",
        "CONNECT localhost HTTP/1.1\r\n\r\n",
        "CONNECT user@localhost:{index} HTTP/1.1\r\n\r\n",
    ],
)
async def test_what_is_not_listed_is_refused(head: str) -> None:
    async with far() as index, far() as other, proxy(Index("localhost", index, private=True)) as port:
        answer = await ask(port, head.format(index=index, other=other))
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert b"hello" not in answer


@pytest.mark.parametrize("line", ["GET http://localhost:{index}/ HTTP/1.1", "POST / HTTP/1.1", "CONNECT", ""])
async def test_nothing_but_connect_is_answered(line: str) -> None:
    async with far() as index, proxy(Index("localhost", index, private=True)) as port:
        answer = await ask(port, line.format(index=index) + "\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 405 ")


async def test_an_index_whose_name_leads_to_a_private_address_is_refused() -> None:
    async with far() as index, proxy(Index("localhost", index)) as port:
        answer = await ask(port, connect("localhost", index))
    assert answer.startswith(b"HTTP/1.1 403 ")


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.0.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "::1", "::ffff:10.0.0.1",
                "::ffff:169.254.169.254", "64:ff9b:1::a00:1", "64:ff9b::a00:1", "2002:a00:1::", "fd00:ec2::254", "100.64.0.1", "fe80::1%1", "224.0.0.1", "ff02::1"],
)  # fmt: skip
async def test_no_address_that_is_not_public_is_connected_to(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def resolved(*_arguments: object, **_keywords: object) -> list[tuple[Any, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 443))]

    async def never(*arguments: object, **_keywords: object) -> None:
        raise AssertionError(arguments)

    async with proxy(Index("pypi.org")) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolved)
        monkeypatch.setattr(asyncio, "open_connection", never)
        writer.write(connect("pypi.org", 443).encode())
        assert (await reader.read()).startswith(b"HTTP/1.1 403 ")
        writer.close()


async def test_public_addresses_are_tried_one_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    async def resolved(*_arguments: object, **_keywords: object) -> list[tuple[Any, ...]]:
        addresses = ("10.0.0.1", "2600::1", "64:ff9b::101:101", "1.1.1.1")
        return [(0, 0, 6, "", (address, 443)) for address in addresses]

    async def away(address: str, _port: int) -> None:
        tried.append(address)
        raise OSError

    async with proxy(Index("pypi.org")) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolved)
        monkeypatch.setattr(asyncio, "open_connection", away)
        writer.write(connect("pypi.org", 443).encode())
        assert (await reader.read()).startswith(b"HTTP/1.1 502 ")
        writer.close()
    assert tried == ["2600::1", "64:ff9b::101:101", "1.1.1.1"]


async def test_a_head_without_end_is_not_waited_for_and_not_kept() -> None:
    async with proxy(*DEFAULT) as port:
        assert b"200" not in await ask(port, "CONNECT " + "a" * 100_000)


async def test_an_index_that_is_away_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        number = closed.getsockname()[1]
    async with proxy(Index("localhost", number, private=True)) as port:
        assert (await ask(port, connect("localhost", number))).startswith(b"HTTP/1.1 502 ")


async def test_more_than_the_limit_does_not_pass() -> None:
    async with (
        far(b"x" * 300_000) as index,
        proxy(Index("localhost", index, private=True), most_bytes=100_000) as port,
    ):
        assert len(await ask(port, connect("localhost", index))) < 150_000


async def test_every_connection_is_cut_when_the_phase_ends() -> None:
    async with far() as index:
        async with proxy(Index("localhost", index, private=True)) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(connect("localhost", index).encode())
            assert b"200" in await reader.readuntil(b"\r\n\r\n")
        async with asyncio.timeout(2):
            with suppress(ConnectionError):
                assert b"later" not in await reader.read()
        writer.transport.abort()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)


def test_the_usual_indexes_are_listed_with_their_encrypted_port_alone() -> None:
    assert {
        "pypi.org",
        "files.pythonhosted.org",
        "registry.npmjs.org",
        "proxy.golang.org",
        "index.crates.io",
    } <= {index.host for index in DEFAULT}
    assert {(index.port, index.private) for index in DEFAULT} == {(443, False)}


# --- from inside -----------------------------------------------------------------------------------------------------


async def test_a_room_reaches_the_indexes_while_it_may_and_nothing_afterwards(kit: Kit) -> None:
    async with far() as index, far() as other:
        sandbox = BubblewrapSandbox(indexes=[Index("localhost", index, private=True)])
        program = f"""
        import os, socket
        def through(port):
            try:
                s = socket.create_connection(("127.0.0.1", 3128), timeout=5)
            except OSError as error:
                return str(error)
            s.sendall(f"CONNECT localhost:{{port}} HTTP/1.1\\r\\n\\r\\n".encode())
            s.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda: s.recv(1000), b"")).decode()
            return answer.split(" ")[1] + answer[-5:].strip()
        print(os.environ.get("HTTPS_PROXY"))
        print(through({index}))
        print(through({other}))
        try:
            print("REACHED", socket.create_connection(("127.0.0.1", {index}), timeout=5))
        except OSError as error:
            print(error)
        """
        async with sandbox.open(kit.SMALL) as room:
            with_a_way = await kit.attack(room, program, indexes=True)
            without = await kit.attack(room, program)
    assert with_a_way.output.splitlines()[0] == "http://127.0.0.1:3128"
    refused = "[Errno 111] Connection refused"
    assert with_a_way.output.splitlines()[1] == "200hello"
    assert with_a_way.output.splitlines()[2].startswith("403")
    assert with_a_way.output.splitlines()[3:] == [refused]
    assert without.output.splitlines() == ["None", refused, refused, refused]


async def test_what_holds_the_port_of_the_indexes_beforehand_learns_nothing(kit: Kit) -> None:
    """A command cannot stay to listen in the proxy's place: it is gone with its command."""
    sandbox = BubblewrapSandbox()
    async with sandbox.open(kit.SMALL) as room:
        await kit.attack(
            room,
            """
            import os, socket, time
            s = socket.create_server(("127.0.0.1", 3128))
            if os.fork() == 0:
                os.setsid()
                time.sleep(60)
            """,
        )
        assert (await room.run("echo fine", seconds=5, indexes=True)).output == "fine\n"


class Pages(BaseHTTPRequestHandler):
    wheel = b""

    def do_GET(self) -> None:
        name = "fairweather-1.0-py3-none-any.whl"
        page = f'<a href="/{name}">{name}</a>'.encode()
        body = page if self.path.startswith("/simple") else self.wheel
        self.send_response(200)
        self.send_header(
            "Content-Type", "text/html" if self.path.startswith("/simple") else "application/zip"
        )
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        """Says nothing."""


def _wheel() -> bytes:
    """One module, packed as https://packaging.python.org/specifications/binary-distribution-format/ says."""
    files = {
        "fairweather.py": b"SKY = 'blue'\n",
        "fairweather-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: fairweather\nVersion: 1.0\n",
        "fairweather-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(
        f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b'=').decode()},{len(data)}\n"
        for name, data in files.items()
    )
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
        archive.writestr("fairweather-1.0.dist-info/RECORD", record + "fairweather-1.0.dist-info/RECORD,,\n")
    return out.getvalue()


def _certificate() -> tuple[bytes, bytes]:
    """A key and a certificate for `localhost`, of an hour's life."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return secret, certificate.public_bytes(pem)


@contextmanager
def index_on_this_machine(folder: Path) -> Iterator[tuple[int, bytes]]:
    """A package index with one package, its port and its certificate."""
    secret, certificate = _certificate()
    (folder / "both.pem").write_bytes(secret + certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "both.pem")
    pages = type("Packed", (Pages,), {"wheel": _wheel()})
    with ThreadingHTTPServer(("127.0.0.1", 0), pages) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.server_address[1], certificate
        finally:
            server.shutdown()
            thread.join()


async def test_pip_installs_from_an_index_and_the_checks_use_it_without_one(tmp_path: Path) -> None:
    with index_on_this_machine(tmp_path) as (port, certificate):
        sandbox = BubblewrapSandbox(indexes=[Index("localhost", port, private=True)])
        tree = Tree(
            {
                "pip.conf": f"[global]\nindex-url = https://localhost:{port}/simple\ncert = pip.pem\n".encode(),
                "pip.pem": certificate,
                "requirements.txt": b"fairweather==1.0\n",
                "test_sky.py": b"import fairweather, unittest\n"
                b"class Sky(unittest.TestCase):\n    def test(self): self.assertEqual(fairweather.SKY, 'blue')\n",
            }
        )
        install = ('python3 -m venv "$VIRTUAL_ENV"',
                   'PIP_CONFIG_FILE=pip.conf "$VIRTUAL_ENV/bin/pip" install -r requirements.txt > /tmp/log 2>&1 || ! cat /tmp/log')  # fmt: skip
        repofile = RepoFile(install=install)
        async with open_checks(tree, repofile=repofile, sandbox=sandbox) as checks:
            report = await checks((FileEdit("new.py", None, b""),))
            assert report.not_run is None
            assert report.passed, report
            broken = await checks((FileEdit("test_sky.py", b"", b"import fairweather\nassert False\n"),))
            assert [run.failed_before for run in broken.broken] == [False]


async def test_what_was_installed_in_the_tree_stays_and_what_checks_leave_goes(
    sandbox: BubblewrapSandbox,
) -> None:
    async with sandbox.open(RoomLimits()) as room:
        files = {"src/a.py": "100644", "package.json": "100644"}
        await room.lay(files, lambda path: path.encode())
        await room.run(
            "mkdir -p node_modules/x/y src/build; touch node_modules/x/y/z src/build/o top", seconds=5
        )
        await room.keep()
        await room.run(
            "mkdir -p junk/deep src/more; touch junk/deep/x src/more/y src/z; echo changed > src/a.py",
            seconds=5,
        )
        await room.lay({"src/a.py": "100644"}, lambda path: path.encode())
        left = await room.run("find . -type f | sort; cat src/a.py", seconds=5)
    assert left.output.split() == ["./node_modules/x/y/z", "./src/a.py", "./src/build/o", "./top", "src/a.py"]


async def test_the_way_out_shows_a_command_nothing_else(
    sandbox: BubblewrapSandbox, kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While dependencies are installed there is a proxy, and no secret, no resolver, no other host."""
    monkeypatch.setenv("HTTPS_PROXY", "http://user:planted@proxy.example:1")
    monkeypatch.setenv("GITHUB_TOKEN", "planted")
    async with sandbox.open(kit.SMALL) as room:
        finished = await kit.attack(
            room,
            """
            import os, socket
            print(sorted(value for value in os.environ.values() if "planted" in value))
            for host, port in (("169.254.169.254", 80), ("1.1.1.1", 443)):
                try:
                    print("REACHED", socket.create_connection((host, port), timeout=2))
                except OSError as error:
                    print(error.errno)
            for asked in ("169.254.169.254:80", "localhost:22", "127.0.0.1:443", "github.com:443", "pypi.org:80"):
                with socket.create_connection(("127.0.0.1", 3128), timeout=5) as s:
                    s.sendall(f"CONNECT {asked} HTTP/1.1\\r\\n\\r\\n".encode())
                    print(s.recv(12).decode())
            """,
            indexes=True,
        )
    assert finished.output.splitlines() == ["[]", "101", "101", *["HTTP/1.1 403"] * 5]
