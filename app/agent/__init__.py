"""A tree and a request in, the model's patch out. Knows no token, no branch and no network."""

from app.agent.budget import EndedError, Limits
from app.agent.instructions import collect
from app.agent.loop import Author, Material, Mode

__all__ = ["Author", "EndedError", "Limits", "Material", "Mode", "collect"]
