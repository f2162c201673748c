"""How the comment grammar's time grows with the comment: for a linear reader, eight times the text takes eight times as long.

python tests/bench/grammar.py
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.webhooks.test_comment import ADVERSARIES, LONGEST
from webhooks.comment import read


def seconds(unit: str, size: int) -> float:
    """The best of three."""
    body = "@magicode " + (unit * (size // len(unit) + 1))[:size]
    best = float("inf")
    for _ in range(3):
        began = time.process_time()
        read(body, slug="magicode")
        best = min(best, time.process_time() - began)
    return best


def main() -> None:
    rows = [(seconds(unit, LONGEST // 8), seconds(unit, LONGEST), unit) for unit in ADVERSARIES]
    sys.stdout.write(f"{'repeated':<24}{LONGEST // 8:>9}{LONGEST:>9}  ratio (8: linear, 64: quadratic)\n")
    for eighth, whole, unit in sorted(rows, key=lambda row: -row[1]):
        sys.stdout.write(
            f"{repr(unit)[:22]:<24}{eighth:>8.3f}s{whole:>8.3f}s{whole / max(eighth, 1e-4):>7.1f}\n"
        )


if __name__ == "__main__":
    main()
