"""Input is frozen at the trigger: what the run fetches later must be, to the byte, what stood there then.

Only a keyed hash is kept, so the database does not tell whether a guessed text is the one.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Sequence

from app.errors import UserError
from app.nouns import Run

Texts = Sequence[tuple[str, str]]
"""Named texts as the asker saw them: `issue.title`, `issue.body` ('' for none), `comment.body` if there is one."""


class EditedSinceError(UserError):
    """The text of this request was edited after it was made, so I stopped; ask again to have the new text worked on."""


def keyed_hash(data_key: bytes, purpose: bytes, parts: Iterable[str]) -> str:
    """HMAC-SHA256 over length-prefixed parts, under a key derived from the installation's for this purpose; hex."""
    subkey = hmac.digest(data_key, b"magicode.jobs." + purpose, hashlib.sha256)
    mac = hmac.new(subkey, digestmod=hashlib.sha256)
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass")
        mac.update(len(raw).to_bytes(8, "big"))
        mac.update(raw)
    return mac.hexdigest()


def input_hash(data_key: bytes, texts: Texts) -> str:
    """The order in which the texts come does not matter; their names do."""
    return keyed_hash(data_key, b"input", (part for pair in sorted(texts) for part in pair))


def require_unchanged(run: Run, data_key: bytes, texts: Texts) -> None:
    """Raises EditedSinceError when these are not the texts of the trigger."""
    if not hmac.compare_digest(run.input_hash, input_hash(data_key, texts)):
        raise EditedSinceError(reason="edited_since")
