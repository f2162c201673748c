"""The planted words, fresh for each proof, and every form in which one of them could lie somewhere.

A word stands for its source: "issue body", "model answer". It is never printed, since what prints it would be at rest.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

LENGTH = 14
"""Letters of a word. By chance, one of a hundred such words stands in a terabyte of random letters once in 10^6 proofs."""

_CONSONANTS, _VOWELS = "bcdfghjklmnprstvwz", "aeiou"


@dataclass(frozen=True, slots=True)
class Canary:
    """One planted word: lower-case ASCII letters, so that it can be a name, a label and a part of a path."""

    source: str
    number: int
    word: str


def fresh(choose: Callable[[str], str] = secrets.choice) -> str:
    """A word that nobody has written before, and that can be read: consonants and vowels in turns."""
    return "".join(choose(_VOWELS if place % 2 else _CONSONANTS) for place in range(LENGTH))


def plant(
    sources: Sequence[str], *, each: int = 2, choose: Callable[[str], str] = secrets.choice
) -> dict[str, tuple[Canary, ...]]:
    """`each` words for every source."""
    return {
        source: tuple(Canary(source, number, fresh(choose)) for number in range(each)) for source in sources
    }


@dataclass(frozen=True, slots=True)
class Form:
    """One way to write a word: `anycase` where the case of its letters says nothing. Between its parts stands one byte of any value."""

    name: str
    parts: tuple[bytes, ...]
    anycase: bool = False


def forms(word: str) -> Iterator[Form]:
    """Every form that is looked for, but for the compressed ones, which are taken apart first."""
    plain = word.encode()
    yield Form("plain, any case", (plain,), anycase=True)
    yield Form("hex, any case", (plain.hex().encode(),), anycase=True)
    for encoding in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"):
        yield Form(f"{encoding}, any case", (word.encode(encoding),), anycase=True)
    yield Form("URL-encoded", ("".join(f"%{byte:02x}" for byte in plain).encode(),), anycase=True)
    yield Form("JSON-escaped", ("".join(f"\\u{byte:04x}" for byte in plain).encode(),), anycase=True)
    yield Form("backslash-x", ("".join(f"\\x{byte:02x}" for byte in plain).encode(),), anycase=True)
    yield Form("octal-escaped", ("".join(f"\\{byte:03o}" for byte in plain).encode(),))
    yield Form("HTML entities", ("".join(f"&#{byte};" for byte in plain).encode(),))
    for shift in range(3):
        yield Form(f"base64, aligned at {shift}", (_aligned(plain, shift),))
        yield Form(f"base64 of upper case, aligned at {shift}", (_aligned(plain.upper(), shift),))
        yield Form(f"base64 of utf-16-le, aligned at {shift}", (_aligned(word.encode("utf-16-le"), shift),))
    yield Form("base32", (base64.b32encode(plain)[:20],), anycase=True)
    for cut in range(1, 9):
        # pglz puts a byte of flags before every eight literals, wherever in the word that falls.
        pieces = [plain[:cut], *(plain[at : at + 8] for at in range(cut, len(plain), 8))]
        yield Form(f"pglz literals, cut at {cut}", tuple(pieces))


def form_names() -> tuple[str, ...]:
    """What a report says was looked for; the pglz forms as one, the compressed ones with them."""
    told = dict.fromkeys(form.name.partition(", cut at")[0] for form in forms("a" * LENGTH))
    return (*told, *COMPRESSED)


COMPRESSED = ("zlib", "gzip", "ZIP members (raw deflate)")
NOT_UNPACKED: Mapping[str, bytes] = {"zstd": b"\x28\xb5\x2f\xfd", "lz4 frame": b"\x04\x22\x4d\x18"}
"""What is counted and not unpacked, by its first bytes. Where a word stands as literals in it, it is found all the same."""


def _aligned(plain: bytes, shift: int) -> bytes:
    """The characters of base64 that say nothing but these bytes, when so many bytes of a group stand before them."""
    told = base64.b64encode(b"\0" * shift + plain)
    before = -(-shift * 4 // 3) if shift else 0
    whole = (shift + len(plain)) * 8 // 6
    return told[before:whole]
