"""Where the master key and the App's own secrets live: a file that only its owner can read, or AWS."""

from __future__ import annotations

from app.errors import WrongMasterKeyError
from infra.secrets.file import FileMasterKey, MasterKeyFileError

__all__ = ["FileMasterKey", "MasterKeyFileError", "WrongMasterKeyError"]
