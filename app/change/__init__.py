"""The model's patch in, a checked change out, or a refusal that says which rule and which path."""

from app.change.check import verify, verify_publication
from app.change.checks import CheckLimits, open_checks
from app.change.policy import Policy

__all__ = ["CheckLimits", "Policy", "open_checks", "verify", "verify_publication"]
