"""The stage of whole requests, for those who attack it."""

from __future__ import annotations

from tests.line.conftest import bundled, raise_stage, sample, sample_playbook, stage

__all__ = ["bundled", "raise_stage", "sample", "sample_playbook", "stage"]
