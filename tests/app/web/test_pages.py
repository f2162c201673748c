"""An installation's pages, from the sign-in to what comes of them."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import pytest

from tests.app.web.browser import Browser, opened
from tests.line.conversations import ask
from tests.line.stage import Stage

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAGES = ("", "/settings", "/tokens", "/actions", "/deletion")


async def test_every_page_of_an_installation_opens_for_its_administrator(ada: Browser, shared: Stage) -> None:
    for path in PAGES:
        page = await ada.get(f"/installations/{shared.installation}{path}")
        assert page.status_code == 200, page.text
        assert "octo" in page.text
        assert len(page.content) < 100_000
