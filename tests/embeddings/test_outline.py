"""The map of a tree: what it shows first, what it leaves to names and counts, and what it costs."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embeddings.outline import MAX_SIGNATURES, drawn, outline


@dataclass(frozen=True)
class Entry:
    path: str
    sha: str
    size: int | None


class Tree:
    def __init__(self, files: Mapping[str, str | bytes]) -> None:
        self.files = {
            path: data.encode() if isinstance(data, str) else data for path, data in sorted(files.items())
        }
        self.reads: list[str] = []

    def entries(self) -> Sequence[Entry]:
        return [Entry(path, "", len(data)) for path, data in self.files.items()]

    def read(self, path: str) -> bytes:
        self.reads.append(path)
        return self.files[path]


SHOP = {
    "README.md": "# Shop\n",
    "logo.png": b"\x89PNG\0",
    "shop/__init__.py": "",
    "shop/cart.py": (
        "from shop.money import Money\n\n\nclass Cart(Base):\n    rate = 1\n\n    def total(self, discount: int) -> Money:\n"
        "        def inner():\n            pass\n\n    async def pay(self): ...\n\n\ndef empty() -> Cart:\n    return Cart()\n"
    ),
    "shop/money.py": "class Money:\n    pass\n",
    "shop/tax.py": "from shop.money import Money\n\ndef tax(money):\n    return 0\n",
    "web/app.ts": "import {x} from './x'\nexport class App {\n  render(): void {\n  }\n}\n",
    "node_modules/left/index.js": "function left() {}\n",
}


def test_signatures_stand_as_deep_as_their_definitions() -> None:
    shown = drawn(Tree(SHOP), ["shop/cart.py"], 4_000)
    assert shown.startswith(
        "shop/cart.py\n  class Cart(Base):\n    def total(self, discount: int) -> Money:\n    async def pay(self): ...\n"
        "  def empty() -> Cart:\n"
    )
    assert "web/app.ts\n  class App\n    render(): void\n" in shown


def test_the_ranking_comes_first_then_what_others_import_then_what_is_near_the_top() -> None:
    shown = drawn(Tree(SHOP | {"a.py": "def a():\n    pass\n"}), ["web/app.ts", "gone.py"], 4_000)
    places = [
        shown.index(path) for path in ("web/app.ts", "shop/money.py", "a.py", "shop/cart.py", "shop/tax.py")
    ]
    assert places == sorted(places)
    assert "gone.py" not in shown


def test_files_without_definitions_are_named_and_files_of_others_are_counted() -> None:
    shown = drawn(Tree(SHOP), [], 4_000)
    other, _, folders = shown.partition("Files not named here, by folder:\n")
    assert "Other files:\n" in other
    assert "  README.md\n" in other
    assert "left" not in other
    assert folders.splitlines() == ["  (top) (1 files)", "  node_modules/left/ (1 files)"]


def test_each_file_is_told_of_once() -> None:
    files = {f"d{n % 7}/f{n}.py": f"def f{n}():\n    pass\n" for n in range(300)}
    shown = drawn(Tree(files), ["d3/f3.py"], 3_000)
    named = [line.strip() for line in shown.splitlines() if line.strip().endswith(".py")]
    assert len(named) == len(set(named))
    counted = sum(
        int(line.rpartition("(")[2].split()[0]) for line in shown.splitlines() if line.endswith(" files)")
    )
    assert len(named) + counted == 300
    assert len(named) > 20


def test_a_file_with_very_many_definitions_shows_the_outer_ones_and_counts_the_rest() -> None:
    methods = "".join(f"    def m{n}(self):\n        pass\n" for n in range(100))
    text = f"class One:\n{methods}\nclass Two:\n{methods}\ndef last():\n    pass\n"
    shown = drawn(Tree({"a.py": text}), ["a.py"], 100_000)
    assert all(f"\n  {name}" in shown for name in ("class One:", "class Two:", "def last():"))
    assert shown.count("def ") == MAX_SIGNATURES - 2
    assert f"  … {203 - MAX_SIGNATURES} more" in shown


def test_what_the_tree_itself_leaves_out_is_not_shown() -> None:
    files = {"a.py": "def a():\n    pass\n", "gen/b.py": "def b():\n    pass\n", ".magicodeignore": "gen/\n"}
    shown = drawn(Tree(files), ["gen/b.py"], 2_000)
    assert "def b" not in shown
    assert "gen/ (1 files)" in shown


def test_the_same_tree_gives_the_same_map() -> None:
    maps = {drawn(Tree(SHOP), ["shop/tax.py"], 2_000) for _ in range(5)}
    assert len(maps) == 1


@given(st.integers(0, 2_000), st.lists(st.sampled_from(sorted(SHOP)), max_size=4))
def test_the_map_is_never_longer_than_asked(characters: int, ranked: list[str]) -> None:
    assert len(drawn(Tree(SHOP), ranked, characters)) <= characters


def test_an_empty_tree_has_an_empty_map() -> None:
    assert drawn(Tree({}), [], 1_000) == ""


async def test_the_map_is_drawn_beside_the_event_loop() -> None:
    assert await outline(Tree(SHOP), ["shop/tax.py"], 2_000) == drawn(Tree(SHOP), ["shop/tax.py"], 2_000)


def test_paths_of_strangers_stay_on_their_line() -> None:
    files = {
        "a\nOther files:\n  b.py": "def a():\n    pass\n",
        "x" * 900 + ".py": "def x():\n    pass\n",
        "d\u202e/e.md": "e\n",
    }
    shown = drawn(Tree(files), [], 5_000)
    assert '"a\\nOther files:\\n  b.py"\n  def a()' in shown
    assert "\u202e" not in shown
    assert max(map(len, shown.splitlines())) < 300


@pytest.mark.parametrize(
    "text",
    [
        "(" * 200_000,
        "def a(" * 40_000,
        "class A:\n" + "".join(f"{' ' * n}def f{n}():\n" for n in range(1, 400)),
        "x = 1\n" * 40_000,
        b"\xff\xfe" + b"\0" * 1_000,
        b"def a():\n    pass\n\xe9" * 1_000,
    ],
)
def test_hostile_files_cost_little_and_hide_nothing_else(text: str | bytes) -> None:
    files: dict[str, str | bytes] = {f"bad{n}.py": text for n in range(4)}
    start = time.process_time()
    shown = drawn(Tree(files | {"good.py": "def good():\n    pass\n"}), ["bad0.py"], 6_000)
    assert time.process_time() - start < 4
    assert "def good():" in shown


def test_a_large_tree_is_mapped_in_two_seconds() -> None:
    rng = random.Random(5)
    files = {}
    for number in range(2_000):
        imports = "".join(f"from pkg{k % 40}.mod{k} import thing\n" for k in rng.sample(range(2_000), 6))
        body = "".join(
            f"def f{number}_{i}(a, b, c):\n    '''Says {i}.'''\n    return a + b\n\n\n" for i in range(40)
        )
        files[f"pkg{number % 40}/mod{number}.py"] = imports + body
    tree = Tree(files)
    start = time.process_time()
    shown = drawn(tree, [f"pkg{n}/mod{n}.py" for n in range(40)], 16_000)
    assert time.process_time() - start < 2
    assert 14_000 < len(shown) <= 16_000
    assert len(tree.reads) <= 2_300
