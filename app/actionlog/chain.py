"""How entries that were checked by themselves fit each other: one pass over a log of any length, in constant memory.

A finding names the place where the log was changed, as far as its neighbours and the quoted heads tell it: of two
entries that do not fit, the one that the others speak against.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from app.actionlog.anchors import Anchor, Comparison
from app.actionlog.entry import genesis

KEPT: Final = 1_000
"""Findings that are told; more are counted."""
_GAPS_KEPT: Final = 10_000
_FIRST: Final = 3  # entries that tell whose log it is: a foreign one among them is outvoted


class Kind(StrEnum):
    EDITED = "edited"
    DROPPED = "dropped"
    INSERTED = "inserted"
    REORDERED = "reordered"
    TRUNCATED = "truncated"
    REWRITTEN = "rewritten"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that does not fit. `position` counts the entries of the file from 1; `seq` is what the entry calls itself."""

    kind: Kind
    position: int
    seq: int
    message: str


@dataclass(frozen=True, slots=True)
class Report:
    """`head` is the last entry's hash, to be compared with a quoted one; `closed` counts entries without details.

    `whole` False: a part, whose gaps cannot be judged. `pruned_to` is the last number that retention removed, by the chain's
    own word. `anchors` counts the quoted heads that the log was compared with, `anchors_apart` those that speak of entries
    that are not in it (removed by retention, or outside a part) and `anchors_of_others` those of another installation's log.
    `more_findings` were found beyond those that are told.
    """

    entries: int
    installation_id: int | None
    head_seq: int
    head: str | None
    closed: int
    findings: tuple[Finding, ...]
    whole: bool = True
    first_seq: int = 0
    pruned_to: int = 0
    anchors: int = 0
    anchors_apart: int = 0
    anchors_of_others: int = 0
    more_findings: int = 0

    @property
    def ok(self) -> bool:
        return not self.findings and not self.more_findings


@dataclass(frozen=True, slots=True)
class Link:
    """What an entry's neighbours must know of it. `made` is the hash of what it says, `hash` the one that it bears; `wrong`
    says what is wrong with it by itself. `attests` names the last entry that retention removed, and its hash; `may_attest`:
    it would, if its details could be opened.
    """

    installation_id: int
    seq: int
    hash: str
    previous_hash: str
    made: str
    wrong: str
    closed: bool
    attests: tuple[int, str] | None = None
    may_attest: bool = False

    @property
    def is_own(self) -> bool:
        return self.made == self.hash


class _Placed:
    """A link at its place in the file; `before` is set where it does not follow the one that came before."""

    __slots__ = ("anchored", "before", "link", "position")

    def __init__(self, position: int, link: Link) -> None:
        self.position = position
        self.link = link
        self.before: _Placed | None = None
        self.anchored: bool | None = None


def _origin(installation_id: int) -> _Placed:
    """What the first entry follows. It stands in no file, so it is never what was changed."""
    begins = genesis(installation_id)
    placed = _Placed(0, Link(installation_id, 0, begins, "", begins, "", closed=False))
    placed.anchored = True
    return placed


@dataclass(frozen=True, slots=True)
class _Gap:
    first: int
    last: int
    position: int
    previous_hash: str


class Chain:
    """Takes a log's links in the file's order and then reports."""

    def __init__(self, anchors: Iterable[Anchor] = ()) -> None:
        self._compared = Comparison(anchors)
        self._count = self._closed = 0
        self._findings: list[Finding] = []
        self._more = 0
        self._installation: int | None = None
        self._waiting: list[_Placed] = []
        self._expected = 1
        self._heads: list[_Placed] = []  # those that bear the last number, of which the next one follows one
        # Its number is too high: either something is missing before it, or it is out of place.
        self._ahead: _Placed | None = None
        self._aside: dict[int, _Placed] = {}  # what was out of place, by number
        self._seen = _Numbers()
        self._gaps: list[_Gap] = []
        self._more_gaps = 0
        self._attested: dict[int, str] = {}
        self._may_attest = False
        self._first: int = 0
        self._last: Link | None = None

    def take(self, link: Link) -> None:
        self._count += 1
        self._closed += link.closed
        self._last = link
        self._first = self._first or link.seq
        if link.attests is not None:
            self._attested[link.attests[0]] = link.attests[1]
        self._may_attest = self._may_attest or link.may_attest
        placed = _Placed(self._count, link)
        if self._installation is not None:
            self._place(placed)
            return
        self._waiting.append(placed)
        if len(self._waiting) == _FIRST:
            self._begin()

    def report(self, *, whole: bool = True, header_installation: int | None = None) -> Report:
        """What was found, in the order of the file. Takes no more links afterwards."""
        if self._installation is None:
            self._begin()
        if self._ahead is not None:
            self._jump(self._ahead)
        self._bring_in(None)
        self._settle(None)
        for placed in self._aside.values():
            self._find(Kind.INSERTED, placed, "It belongs nowhere in this log.")
        pruned_to = self._missing(whole)
        self._quoted(whole)
        if self._count and header_installation not in (None, self._installation):
            message = "The file says that it is another installation's log."
            self._tell(Finding(Kind.EDITED, 1, self._first, message))
        compared = self._compared
        self._findings.sort(key=lambda finding: (finding.position, finding.kind))
        return Report(
            entries=self._count,
            installation_id=self._installation,
            head_seq=self._last.seq if self._last else 0,
            head=self._last.hash if self._last else None,
            closed=self._closed,
            findings=tuple(self._findings),
            whole=whole,
            first_seq=self._first,
            pruned_to=pruned_to,
            anchors=compared.compared,
            anchors_apart=compared.apart(self._expected - 1, begins=self._first, whole=whole),
            anchors_of_others=compared.other,
            more_findings=self._more,
        )

    # --- one after the other -----------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Whose log it is, its first entries say together."""
        waiting, self._waiting = self._waiting, []
        votes = Counter(placed.link.installation_id for placed in waiting if placed.link.is_own)
        votes = votes or Counter(placed.link.installation_id for placed in waiting)
        if votes:
            self._installation = votes.most_common(1)[0][0]
        self._compared.begin(self._installation)
        if self._installation is not None:
            self._heads = [_origin(self._installation)]
        for placed in waiting:
            self._place(placed)

    def _place(self, placed: _Placed) -> None:
        link = placed.link
        if link.wrong:
            self._find(Kind.EDITED, placed, link.wrong)
        if link.installation_id != self._installation and link.is_own:
            self._find(Kind.INSERTED, placed, "The entry is of another installation.")
            return
        seq = link.seq
        if seq != self._expected and not link.is_own and self._follows(link):
            seq = self._expected  # it is the number that was edited
        if self._ahead is not None and seq >= self._expected:
            ahead, self._ahead = self._ahead, None
            if seq < ahead.link.seq:
                self._put_aside(ahead)
            else:
                self._jump(ahead)
        if seq > self._expected:
            self._bring_in(seq)
        if seq == self._expected:
            self._advance(placed, seq)
        elif seq > self._expected:
            self._ahead = placed
        elif seq == self._expected - 1 and self._heads:
            self._heads.append(placed)
        else:
            self._behind(placed, seq)

    def _advance(self, placed: _Placed, seq: int) -> None:
        """It has the number that comes next."""
        self._settle(placed)
        self._heads = [placed]
        self._seen.add(seq)
        self._expected = seq + 1

    def _settle(self, following: _Placed | None) -> None:
        """Which of those with the last number is the one that the next entry follows; it is compared with its quotation."""
        if not self._heads:
            return
        link = following.link if following else None
        fitting = [one for one in self._heads if link and _fits(one.link, link)]
        broken = link is not None and not fitting
        head = min(fitting or self._heads, key=self._doubt)
        for one in self._heads:
            if one is not head:
                self._find(Kind.INSERTED, one, f"There is another entry with number {one.link.seq}.")
        if head.link.is_own and head.position:
            head.anchored = self._compared.see(head.link.seq, head.link.hash, head.position)
        broken = broken and link is not None and link.is_own and head.link.is_own
        before, head.before = head.before, None
        if before is not None:
            at_fault = head if broken or before.anchored else before
            self._replaced(at_fault)
        elif broken and following is not None:
            following.before = head

    def _doubt(self, placed: _Placed) -> tuple[bool, bool, bool, int]:
        """Of several with the same number: the one that is sound, that was quoted, that follows, that came first."""
        link = placed.link
        quoted = self._compared.fits(link.seq, link.hash) is not False
        return bool(link.wrong), not quoted, placed.before is not None, placed.position

    def _replaced(self, placed: _Placed) -> None:
        self._find(
            Kind.EDITED, placed, "It does not fit its neighbours: it was replaced, and its hash made anew."
        )

    def _follows(self, link: Link) -> bool:
        return any(_fits(head.link, link) for head in self._heads)

    # --- out of place ------------------------------------------------------------------------------------------------

    def _put_aside(self, placed: _Placed) -> None:
        if placed.link.seq in self._aside:
            self._find(Kind.INSERTED, placed, f"There is another entry with number {placed.link.seq}.")
        else:
            self._aside[placed.link.seq] = placed

    def _bring_in(self, up_to: int | None) -> None:
        """What stood too early comes next, unless `up_to` does; a forged one only bears the number."""
        while up_to is None or self._expected < up_to:
            placed = self._aside.get(self._expected)
            if placed is None or not self._follows(placed.link):
                return
            del self._aside[self._expected]
            belongs = f"It belongs behind entry {self._expected - 1} and stands before it."
            self._find(Kind.REORDERED, placed, belongs)
            self._advance(placed, self._expected)

    def _jump(self, placed: _Placed) -> None:
        """What comes before it in the chain does not come before it in the file."""
        link = placed.link
        self._settle(None)
        self._heads = []
        if len(self._gaps) < _GAPS_KEPT:
            self._gaps.append(_Gap(self._expected, link.seq - 1, placed.position, link.previous_hash))
        else:
            self._more_gaps += 1
        if link.is_own:
            self._compared.see(link.seq - 1, link.previous_hash, placed.position)
        self._expected = link.seq
        self._advance(placed, link.seq)

    def _behind(self, placed: _Placed, seq: int) -> None:
        if seq < 1 or seq in self._seen:
            self._find(Kind.INSERTED, placed, f"There is another entry with number {seq}.")
            return
        self._seen.add(seq)
        self._find(
            Kind.REORDERED, placed, f"It belongs before entry {self._expected - 1} and stands behind it."
        )
        if placed.link.is_own:
            self._compared.see(seq, placed.link.hash, placed.position)

    # --- at the end --------------------------------------------------------------------------------------------------

    def _missing(self, whole: bool) -> int:
        """What is in no place, unless retention removed it, which takes the beginning alone; returns the last number that
        it removed."""
        if not whole:
            return 0
        pruned_to = 0
        self._more += self._more_gaps
        for gap in self._gaps:
            if gap.first == 1 and self._attested.get(gap.last) == gap.previous_hash:
                pruned_to = gap.last
                continue
            for first, last in self._seen.missing(gap.first, gap.last):
                span = f"entry {first}" if first == last else f"entries {first} to {last}"
                if first > 1:
                    message = f"Missing before it: {span}."
                    self._tell(Finding(Kind.DROPPED, gap.position, gap.last + 1, message))
                    continue
                message = f"Missing at the beginning: {span}. No entry says that retention removed them"
                if self._may_attest:
                    message += (
                        "; there are entries about retention, but their details cannot be opened any more"
                    )
                self._tell(Finding(Kind.TRUNCATED, gap.position, gap.last + 1, f"{message}."))
        return pruned_to

    def _quoted(self, whole: bool) -> None:
        compared, highest = self._compared, self._expected - 1
        for seq, position, fitting, count in compared.rewritten():
            since = "the beginning" if not fitting else f"entry {fitting}, which is as quoted"
            more = f" So were {count - 1} quoted later." if count > 1 else ""
            message = (
                f"Its hash was once quoted as another one: something behind {since} was written anew.{more}"
            )
            self._tell(Finding(Kind.REWRITTEN, position, seq, message))
        if not whole:
            return
        if beyond := compared.beyond(highest):
            message = (
                f"A head with number {beyond[-1]} was once quoted; the log ends at {highest}. Entries are cut off, unless that "
                "was quoted after this log was handed out: then one that is handed out now holds it."
            )
            self._tell(Finding(Kind.TRUNCATED, self._count, beyond[-1], message))
        if self._first <= 1:
            for digits in compared.unmatched():
                message = f"No entry has the quoted hash {digits[:12]}: entries are cut off, or the chain was written anew."
                self._tell(Finding(Kind.TRUNCATED, self._count, highest, message))

    def _find(self, kind: Kind, placed: _Placed, message: str) -> None:
        self._tell(Finding(kind, placed.position, placed.link.seq, message))

    def _tell(self, finding: Finding) -> None:
        if len(self._findings) < KEPT:
            self._findings.append(finding)
        else:
            self._more += 1


def _fits(link: Link, following: Link) -> bool:
    """The hash that an entry bears may be what was edited: then what it says still makes the right one."""
    return following.previous_hash in (link.hash, link.made)


class _Numbers:
    """A set of numbers, kept as stretches."""

    def __init__(self) -> None:
        self._starts = array("q")
        self._ends = array("q")

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._starts, number) - 1
        return at >= 0 and number <= self._ends[at]

    def add(self, number: int) -> None:
        """One that is not there yet."""
        if self._ends and self._ends[-1] == number - 1:
            self._ends[-1] = number
            return
        at = bisect_right(self._starts, number)
        if at and self._ends[at - 1] == number - 1:
            self._ends[at - 1] = number
        else:
            self._starts.insert(at, number)
            self._ends.insert(at, number)

    def missing(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """The stretches from `first` to `last` that are not there."""
        at = max(bisect_right(self._starts, first) - 1, 0)
        while first <= last and at < len(self._starts):
            if self._starts[at] > last:
                break
            if first < self._starts[at]:
                yield first, self._starts[at] - 1
            first = max(first, self._ends[at] + 1)
            at += 1
        if first <= last:
            yield first, last
