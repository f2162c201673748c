"""A call is tried again where nothing was answered, with the same key, and never where the service said no."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import httpx
import pytest

from client.connection import (
    TRIES,
    Connection,
    NotSecureError,
    ProblemError,
    UnavailableError,
    UnreadableError,
    connect,
)

Answer = httpx.Response | Exception
PROBLEM = {"type": "urn:magicode:not_yours", "title": "not yours", "status": 404, "detail": "Not yours."}


class Service:
    """Answers as it is told to, and keeps what it was asked."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.asked: list[httpx.Request] = []
        self.slept: list[float] = []
        self._keys = iter(f"key-{number}" for number in range(1, 100))

    def _handle(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    @property
    def connection(self) -> Connection:
        http = httpx.AsyncClient(
            transport=httpx.MockTransport(self._handle), base_url="https://magicode.test"
        )
        return Connection(http, new_key=lambda: next(self._keys), sleep=self._sleep)


def problem(status: int, **headers: str) -> httpx.Response:
    return httpx.Response(status, json=PROBLEM | {"status": status}, headers=headers)


@pytest.mark.parametrize(
    "first",
    [
        lambda: httpx.ConnectError("refused"),
        lambda: httpx.ReadTimeout("silent"),
        lambda: httpx.RemoteProtocolError("closed"),
        lambda: problem(503),
        lambda: httpx.Response(502, text="<html>"),
        lambda: problem(409, **{"Retry-After": "1"}),
    ],
)
async def test_a_write_whose_answer_is_lost_is_sent_again_with_its_key(first: Callable[[], Answer]) -> None:
    service = Service(first(), first(), httpx.Response(200, json=[1]))
    assert await service.connection.ask(list[int], "POST", "/api/x", body={"a": 1}) == [1]
    assert [one.headers["Idempotency-Key"] for one in service.asked] == ["key-1"] * 3
    assert [one.content for one in service.asked] == [b'{"a":1}'] * 3
    assert service.slept == [1.0, 2.0]


async def test_each_write_has_a_key_of_its_own_and_a_read_has_none() -> None:
    service = Service(*(httpx.Response(204) for _ in range(3)))
    connection = service.connection
    for method in ("PUT", "DELETE", "GET"):
        await connection.send(method, "/api/x")
    assert [one.headers.get("Idempotency-Key") for one in service.asked] == ["key-1", "key-2", None]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 422])
async def test_a_no_is_a_no(status: int) -> None:
    service = Service(problem(status))
    with pytest.raises(ProblemError) as told:
        await service.connection.send("POST", "/api/x")
    assert (told.value.status, told.value.reason, told.value.detail) == (status, "not_yours", "Not yours.")
    assert len(service.asked) == 1


async def test_it_waits_as_long_as_it_is_told_but_not_for_ever_and_then_gives_up() -> None:
    service = Service(*(problem(429, **{"Retry-After": said}) for said in ("5", "9000", "x", "-1")))
    with pytest.raises(UnavailableError, match="Not yours"):
        await service.connection.send("GET", "/api/x")
    assert service.slept == [5.0, 60.0, 4.0]
    assert len(service.asked) == TRIES


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, text="<html>"),
        httpx.Response(200, json={"a": 1}),
        httpx.Response(200, content=b"\xff"),
    ],
)
async def test_what_answers_something_else_is_not_believed(answer: httpx.Response) -> None:
    with pytest.raises(UnreadableError):
        await Service(answer).connection.ask(list[int], "GET", "/api/x")


async def test_a_redirect_is_not_followed() -> None:
    service = Service(httpx.Response(302, headers={"Location": "https://elsewhere.test/"}))
    with pytest.raises(ProblemError, match="302"):
        await service.connection.send("GET", "/api/x")
    assert [one.url.host for one in service.asked] == ["magicode.test"]


class _Breaks(httpx.AsyncByteStream):
    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._pieces = pieces

    async def __aiter__(self):  # type: ignore[no-untyped-def]
        for piece in self._pieces:
            yield piece
        raise httpx.ReadError("reset")


async def test_a_download_that_breaks_off_is_told_and_not_begun_anew() -> None:
    service = Service(problem(503), httpx.Response(200, stream=_Breaks([b"one", b"two"])))
    got: list[bytes] = []

    async def download() -> None:
        async with service.connection.stream("/api/x", query={"a": None, "b": True, "c": 7}) as pieces:
            async for piece in pieces:
                got.append(piece)  # noqa: PERF401 - what came before it broke is looked at

    with pytest.raises(UnavailableError, match="broke off"):
        await download()
    assert b"".join(got) == b"onetwo"
    assert [str(one.url.query, "ascii") for one in service.asked] == ["b=true&c=7"] * 2


@pytest.mark.parametrize(
    "url",
    [
        "http://magicode.test",
        "http://127.0.0.1.nip.test",
        "ftp://127.0.0.1",
        "magicode.test",
        "http://10.0.0.1",
    ],
)
async def test_a_token_is_never_sent_in_clear(url: str) -> None:
    with pytest.raises(NotSecureError):
        async with connect(url, "mgc_1_x"):
            pytest.fail("it was opened")


@pytest.mark.parametrize(
    "url", ["https://magicode.test", "http://127.0.0.1:8000", "http://[::1]:8000", "http://localhost:8000"]
)
async def test_it_may_go_by_https_or_stay_on_this_machine(url: str) -> None:
    async with connect(url, "mgc_1_x"):
        pass
