"""Heads of the chain that were quoted where this service cannot take them back, and how a log compares with them.

A head is quoted at the foot of each pull request and status comment. Here it is read from what a person saved of those:
pages, texts, or what GitHub's API answered. Somebody else's comment can quote a head that never was; where the author
is known, only what bots wrote is read, and no quotation can make a falsified log look sound.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from app.actionlog.entry import genesis
from app.errors import UserError

_DIGITS = re.compile(r"[0-9a-fA-F]{8,64}")
_NUMBER = re.compile(r"[0-9]{1,18}")
# As app.pulls.wording.footer says it, in Markdown, in the page that GitHub makes of it, and as a reader copies that.
_QUOTED = re.compile(
    r"Action log head:\s*(?:`|<code[^>]*>)?\s*([0-9]{1,18}:[0-9a-f]{64}(?::[0-9]{1,18})?)(?![0-9a-f])"
)
_PREFIX = 8


class NoHeadsError(UserError):
    """No head of an action log is quoted in this file; save the pull request or its comments, as text or as GitHub's API
    answers them."""


@dataclass(frozen=True, slots=True)
class Anchor:
    """A head that was quoted somewhere: the entry `seq` had this hash, or its first digits (at least eight).

    Where the number was not quoted `seq` is None: then some entry must have the hash. `installation_id` is None where the
    quotation does not say whose log it is.
    """

    seq: int | None
    hash: str
    installation_id: int | None = None

    def __post_init__(self) -> None:
        """Raises ValueError for a hash too short to mean anything, or what is none."""
        if not _DIGITS.fullmatch(self.hash):
            raise ValueError("an anchor needs eight to sixty-four hexadecimal digits of the hash")

    @classmethod
    def parse(cls, text: str) -> Anchor:
        """`SEQ:HASH:INSTALLATION`, `SEQ:HASH` or `HASH`, as a person copies it from a comment. Raises ValueError."""
        parts = [part.strip() for part in text.strip().split(":")]
        if len(parts) > 3:
            raise ValueError("an anchor is given as SEQ:HASH")
        digits = parts[0] if len(parts) == 1 else parts[1]
        return cls(
            _number(parts[0]) if len(parts) > 1 else None,
            digits,
            _number(parts[2]) if len(parts) > 2 else None,
        )


def _number(text: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise ValueError("the number in an anchor is a plain decimal one")
    return int(text)


def quoted_heads(text: str) -> tuple[Anchor, ...]:
    """The heads that are quoted in a saved page, a text, or JSON as `gh api` and `gh pr view --json` print it, each once
    and in their order. Raises NoHeadsError where there is none.
    """
    found: dict[Anchor, None] = {}
    for part in _texts(text):
        for quoted in _QUOTED.finditer(part):
            found[Anchor.parse(quoted[1])] = None
    if not found:
        raise NoHeadsError
    return tuple(found)


def _texts(text: str) -> Iterator[str]:
    """The strings of JSON values one behind the other, without what people wrote; all of it where it is no JSON."""
    values: list[object] = []
    decoder, at = json.JSONDecoder(), 0
    try:
        while (at := len(text) - len(text[at:].lstrip())) < len(text):
            value, at = decoder.raw_decode(text, at)
            values.append(value)
    except (ValueError, RecursionError):
        values = [text]
    waiting = values[::-1]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, Mapping):
            if not _is_a_persons(value):
                waiting.extend(reversed(list(value.values())))
        elif isinstance(value, Sequence):
            waiting.extend(reversed(value))


def _is_a_persons(value: Mapping[str, object]) -> bool:
    """https://docs.github.com/en/rest/issues/comments: `user.type` is `Bot` for an App's own words."""
    author = value.get("user")
    kind = author.get("type") if isinstance(author, Mapping) else None
    return kind is not None and kind != "Bot"


class Comparison:
    """A log, entry by entry, beside the heads that were quoted of it. `other` heads name another installation's log."""

    def __init__(self, anchors: Iterable[Anchor]) -> None:
        self._anchors = tuple(anchors)
        self._numbered: dict[int, list[str]] = {}
        self._unnumbered: dict[str, set[str]] = {}
        self._results: dict[int, tuple[bool, int]] = {}
        self._matched = 0
        self.other = 0

    def begin(self, installation_id: int | None) -> None:
        """Of whose log it is; a quotation that names no installation is taken to speak of it."""
        for anchor in self._anchors:
            digits = anchor.hash.lower()
            if (
                None not in (anchor.installation_id, installation_id)
                and anchor.installation_id != installation_id
            ):
                self.other += 1
            elif anchor.seq is None:
                self._unnumbered.setdefault(digits[:_PREFIX], set()).add(digits)
            else:
                self._numbered.setdefault(anchor.seq, []).append(digits)
        if installation_id is not None:
            self.see(0, genesis(installation_id), 1)

    def see(self, seq: int, hashed: str, position: int) -> bool | None:
        """Entry `seq` has this hash: whether that is what was quoted, None where nothing was."""
        near = self._unnumbered.get(hashed[:_PREFIX])
        if near:
            matched = {digits for digits in near if hashed.startswith(digits)}
            near -= matched
            self._matched += len(matched)
        fits = self.fits(seq, hashed)
        if fits is not None:
            self._results[seq] = (fits, position)
        return fits

    def fits(self, seq: int, hashed: str) -> bool | None:
        """As `see`, for an entry that may not be the one."""
        quoted = self._numbered.get(seq)
        return None if quoted is None else all(hashed.startswith(digits) for digits in quoted)

    @property
    def compared(self) -> int:
        """Quotations that an entry stands for."""
        numbered = sum(len(self._numbered[seq]) for seq in self._results if seq in self._numbered)
        return numbered + self._matched

    def beyond(self, highest: int) -> Sequence[int]:
        """The quoted numbers above `highest`, ascending."""
        return sorted(seq for seq in self._numbered if seq > highest)

    def apart(self, highest: int, *, begins: int, whole: bool) -> int:
        """How many speak of entries that are not here, without anything being wrong with that: removed by retention, or
        outside of a part."""
        missing = [
            seq for seq in self._numbered if seq not in self._results and (seq <= highest or not whole)
        ]
        unnumbered = 0 if whole and begins <= 1 else len(self.unmatched())
        return unnumbered + sum(len(self._numbered[seq]) for seq in missing)

    def unmatched(self) -> Sequence[str]:
        """What was quoted without a number and is no entry's hash."""
        return sorted(digits for near in self._unnumbered.values() for digits in near)

    def rewritten(self) -> Iterator[tuple[int, int, int | None, int]]:
        """Each stretch of quoted heads that the log does not have: its first number and position, the last number before
        it that fits, and how many there are."""
        fitting: int | None = None
        stretch: list[int] = []
        for seq in [*sorted(self._results), None]:
            fits = seq is None or self._results[seq][0]
            if fits and stretch:
                yield stretch[0], self._results[stretch[0]][1], fitting, len(stretch)
                stretch = []
            if seq is not None:
                if fits:
                    fitting = seq
                else:
                    stretch.append(seq)
