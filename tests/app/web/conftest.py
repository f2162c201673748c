"""The whole service, as in tests/line."""

from __future__ import annotations

from tests.line.conftest import raise_stage, sample

__all__ = ["raise_stage", "sample"]
