"""How long connections are kept."""

from __future__ import annotations

from fastapi import FastAPI

from app.web import patience

LOAD_BALANCER_SECONDS = 60


def test_a_proxy_gives_an_idle_connection_up_before_the_service_does() -> None:
    served = patience.config(FastAPI())
    assert served.timeout_keep_alive > LOAD_BALANCER_SECONDS
