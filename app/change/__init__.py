"""The model's patch in, a checked change out, or a refusal that says which rule and which path."""

from app.change.check import verify, verify_publication
from app.change.policy import Policy

__all__ = ["Policy", "verify", "verify_publication"]
