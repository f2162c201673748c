"""One POST to an address that somebody named: what comes back, and where nothing is sent."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from app.errors import TransientError, UserError
from infra.models.guarded import Guard
from infra.receivers import READ_OF_ANSWER, HttpReceivers
from tests.receiver import Answer, answers, endless, receiving, silent, trickling

HERE = Guard(["127.0.0.1"])


@pytest.mark.parametrize("status", [200, 204, 410, 429, 500])
async def test_the_answers_status_comes_back_and_the_request_is_as_it_was_given(status: int) -> None:
    async with receiving() as receiver:
        receiver.always = answers(status)
        sent = await HttpReceivers(HERE).send(receiver.url, {"webhook-id": "one"}, b'{"type":"ping"}')
        assert sent == status
        (got,) = receiver.got
    assert got.path == "/told?token=of-the-address"
    assert (got.id, got.body) == ("one", b'{"type":"ping"}')


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_no_redirect_is_followed(status: int) -> None:
    async with receiving() as receiver, receiving() as elsewhere:
        receiver.always = answers(status, f"Location: {elsewhere.url}")
        assert await HttpReceivers(HERE).send(receiver.url, {}, b"{}") == status
        assert elsewhere.got == []


async def test_an_endless_answer_is_left_after_its_first_bytes() -> None:
    written = 0

    async def counting(writer: asyncio.StreamWriter) -> None:
        nonlocal written
        write = writer.write

        def count(data: bytes) -> None:
            nonlocal written
            written += len(data)
            write(data)

        writer.write = count  # type: ignore[method-assign]
        await endless(writer)

    async with receiving() as receiver:
        receiver.always = counting
        async with asyncio.timeout(30):
            assert await HttpReceivers(HERE).send(receiver.url, {}, b"{}") == 200
        await asyncio.sleep(0.2)
    assert READ_OF_ANSWER < written < 32 << 20, "what lies in the sockets' own buffers, and no more"


@pytest.mark.parametrize("slow", [silent, trickling])
async def test_who_does_not_answer_in_time_has_not_answered(slow: Answer) -> None:
    async with receiving() as receiver:
        receiver.always = slow
        with pytest.raises(TransientError) as caught:
            await HttpReceivers(HERE, seconds=0.5).send(receiver.url, {}, b"{}")
    assert caught.value.reason == "hook_silent"


async def test_where_nobody_listens_it_is_said() -> None:
    with pytest.raises(TransientError) as caught:
        await HttpReceivers(HERE).send("http://127.0.0.1:1/", {}, b"{}")
    assert caught.value.reason == "hook_unreachable"


async def test_what_one_answer_sets_is_not_sent_with_the_next_request() -> None:
    async with receiving() as receiver:
        receiver.next = [answers(200, "Set-Cookie: whose=theirs")]
        receivers = HttpReceivers(HERE)
        for _ in range(2):
            await receivers.send(receiver.url, {}, b"{}")
    assert ["cookie" in one.headers for one in receiver.got] == [False, False]


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.com/",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://10.1.2.3/hook?x=1",
        "https://192.168.0.1:8443/",
        "https://169.254.169.254/latest/meta-data/",
        "https://100.64.0.1/",
        "https://0.0.0.0/",
        "https://2130706433/",
        "https://ada:word@hooks.example.com/",
        "https://hooks.example.com/#part",
        "https://localhost/",
        "https://metadata.google.internal/",
        "ftp://hooks.example.com/",
        "https:///nothing",
        "hooks.example.com",
        "https://hooks.example.com:99999/",
    ],
)
async def test_an_address_that_leads_inside_is_refused_when_it_is_saved(url: str) -> None:
    async def inside(host: str, _port: int) -> Sequence[str]:
        return ["8.8.8.8"] if host == "hooks.example.com" else ["10.0.0.7"]

    with pytest.raises(UserError) as caught:
        await HttpReceivers(Guard(resolve=inside)).require(url)
    assert caught.value.reason == "hook_address"
    assert caught.value.message.startswith("Nothing is sent to this address")


async def test_an_address_may_have_a_query_and_one_that_is_not_found_is_said() -> None:
    async def public(host: str, _port: int) -> Sequence[str]:
        if host == "nowhere.example.com":
            raise OSError
        return ["8.8.8.8"]

    receivers = HttpReceivers(Guard(resolve=public))
    await receivers.require("https://hooks.example.com/services/T0/B0?token=x")
    with pytest.raises(UserError, match="its host was not found"):
        await receivers.require("https://nowhere.example.com/")


async def test_a_name_that_leads_inside_since_it_was_saved_is_sent_nothing() -> None:
    """The very listener would answer: it is the look at the address that keeps the request back."""
    async with receiving() as receiver:
        found = ["8.8.8.8"]

        async def turning(_host: str, _port: int) -> Sequence[str]:
            return found

        receivers = HttpReceivers(Guard(resolve=turning), seconds=2)
        url = f"https://hooks.example.com:{receiver.port}/"
        await receivers.require(url)
        found[:] = ["127.0.0.1"]
        with pytest.raises(TransientError) as caught:
            await receivers.send(url, {}, b"{}")
        assert caught.value.reason == "hook_refused"
        assert receiver.got == []
