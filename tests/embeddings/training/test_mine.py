"""Pairs from small histories made for the purpose."""

from __future__ import annotations

import gzip
import json
import subprocess
from pathlib import Path
from random import Random
from typing import Any

import pytest

from embeddings.training.git import Repository
from embeddings.training.mine import MAX_SOURCES, Pair, digest, is_source, main, mine
from embeddings.training.queries import message, query, quoted, speak
from embeddings.training.ruled_out import ruled_out

MENU = """\
class Menu:
    def price_of(self, dish):
        return self.prices[dish]

    def add_dish(self, dish, price):
        self.prices[dish] = price
"""
ORDER = """\
def total(order, menu):
    amount = 0
    for dish in order:
        amount += menu.price_of(dish)
    return amount


def empty(order):
    return not order
"""
LOST = "Unknown dishes crash the total of an order"


class History:
    """A repository that grows by commits."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.git("init", "-q", "-b", "main")

    def commit(self, text: str, **files: str) -> str:
        for name, content in files.items():
            path = self.folder / name.replace("__", "/").replace("_py", ".py").replace("_md", ".md")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", text)
        return self.git("rev-parse", "HEAD").strip()

    def mined(self, repository: str = "someone/kitchen", seed: int = 0, at_most: int = 50) -> list[Pair]:
        git = Repository(self.folder / ".git")
        return list(mine(repository, git, tip=git.head(), at_most=at_most, seed=seed))

    def git(self, *arguments: str) -> str:
        who = ("-c", "user.name=A", "-c", "user.email=a@example.com")
        done = subprocess.run(
            ["git", "-C", self.folder, *who, *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout


@pytest.fixture
def history(tmp_path: Path) -> History:
    folder = tmp_path / "mirrors" / "someone+kitchen" / "repo"
    folder.mkdir(parents=True)
    made = History(folder)
    made.commit("Initial commit", menu_py=MENU, order_py=ORDER)
    return made


def _mended(history: History, text: str = LOST, **more: str) -> str:
    return history.commit(
        text, menu_py=MENU.replace("self.prices[dish]\n\n", "self.prices.get(dish, 0)\n\n"), **more
    )


def test_the_positive_is_the_text_before_the_change(history: History) -> None:
    sha = _mended(history)

    (pair,) = history.mined()

    assert (pair.repo, pair.sha, pair.lang, pair.path) == ("someone/kitchen", sha, "py", "menu.py")
    assert pair.query == LOST
    assert pair.positive.startswith("menu.py Menu.price_of\n")
    assert "self.prices[dish]" in pair.positive
    assert "get(dish, 0)" not in pair.positive
    assert pair.positives_of_commit == (digest(pair.positive),)


def test_the_negative_is_of_another_file_of_the_same_tree_and_near_to_the_words(history: History) -> None:
    _mended(history)
    history.commit(
        "Say whether an order holds nothing at all", order_py=ORDER.replace("not order", "len(order) == 0")
    )

    lost = next(pair for pair in history.mined() if pair.query == LOST)

    assert lost.negative.startswith("order.py ")
    assert digest(lost.negative) not in lost.positives_of_commit


def test_a_file_that_was_not_there_yet_gives_no_negative(history: History) -> None:
    _mended(history)
    later = "def total_of_dishes(order):\n    unknown = crash = 0\n    return order\n"
    history.commit("Count what came in today, please", total_py=later)
    history.commit(
        "Count what came in yesterday as well", total_py=later.replace("return order", "return 2 * order")
    )

    lost = next(pair for pair in history.mined() if pair.query == LOST)

    assert not lost.negative.startswith("total.py ")


def test_the_same_seed_draws_the_same_pairs_and_another_seed_others(history: History) -> None:
    for number in range(12):
        text = MENU.replace("self.prices[dish]\n\n", f"self.prices.get(dish, {number})\n\n")
        said = f"Unknown dishes shall now cost {'so ' * number}much\n\nGuests were surprised by price_of() {number} times."
        history.commit(said, menu_py=text)

    first = history.mined(seed=1)

    assert first == history.mined(seed=1)
    assert len(first) >= 10
    assert [pair.query for pair in first] != [pair.query for pair in history.mined(seed=2)]


@pytest.mark.parametrize(
    "text",
    [
        "Merge branch 'prices' into main with all its dishes",
        "Bump version to 2.0.1 and release it today",
        "Fix typo in the price list of the menu",
        "Run black over all of the kitchen code",
        "Fix it (#12)",
        'Revert "Unknown dishes crash the total of an order"',
        "wip\n\nSigned-off-by: A Cook <cook@example.com>\nCo-authored-by: B Cook <b@example.com>",
    ],
)
def test_commits_that_say_nothing_are_passed_over(history: History, text: str) -> None:
    _mended(history, text)

    assert history.mined() == []


def test_commits_that_change_much_tests_only_or_nothing_that_stirs_are_passed_over(history: History) -> None:
    many = {f"part{number}_py": f"def f():\n    return {number}\n" for number in range(MAX_SOURCES + 1)}
    history.commit("Lay the parts of the kitchen out anew", **many)
    changed = {name: text.replace("return", "return 1 +") for name, text in many.items()}
    history.commit("Count one more in every part of the kitchen", **changed)
    history.commit(
        "Hold the total of an order to its price", tests__test_order_py="def test_total():\n    assert 1\n"
    )
    history.commit("Take the operating system into the order", order_py="import os\n" + ORDER)
    history.commit(
        "Set the order out a little more airily", order_py="import os\n" + ORDER.replace("    ", "  ")
    )

    assert history.mined() == []


def test_new_lines_between_two_functions_mean_neither(history: History) -> None:
    between = ORDER.replace("\n\n\ndef empty", "\n\n\ndef half(order):\n    return order[::2]\n\n\ndef empty")
    history.commit("Offer half of an order to small guests", order_py=between)

    assert history.mined() == []


def test_new_lines_inside_of_a_function_mean_that_function(history: History) -> None:
    history.commit(
        "An order without any dishes costs a fee",
        order_py=ORDER.replace("= 0\n", "= 0\n    amount += fee(order)\n"),
    )

    (pair,) = history.mined()

    assert pair.positive.startswith("order.py total\n")


def test_trailers_and_numbers_do_not_reach_the_query() -> None:
    told = message(
        "fix(menu): unknown dishes crash the total (#123)",
        "Closes #12\n\nThe price list has no such dish, see https://example.com/a.\n\n"
        "* fix lint\n\nSigned-off-by: A Cook <cook@example.com>\nCo-authored-by: B <b@example.com>\n",
    )

    assert told is not None
    assert told.subject == "unknown dishes crash the total"
    assert "no such dish" in told.body
    assert not any(trace in told.body for trace in ("#12", "Signed", "Co-auth", "https", "lint"))


def test_queries_quote_tests_half_of_the_time_and_bodies_mostly() -> None:
    told = message(LOST, "The price list has no such dish, and so it falls.")
    assert told is not None
    asked = [query(told, ["total(['soup'], menu)"], [], Random(seed)) for seed in range(400)]

    assert 0.7 < sum("no such dish" in text for text in asked) / 400 < 0.9
    assert 0.4 < sum("total(['soup'], menu)" in text for text in asked) / 400 < 0.6
    assert all(LOST in text for text in asked)


def test_names_of_what_is_to_be_found_become_plain_words() -> None:
    assert (
        speak("`price_of()` raises KeyError in Menu", ["Menu", "price_of"])
        == "price of raises KeyError in Menu"
    )
    assert speak("Let priceOf fail", ["priceOf"]) == "Let price of fail"


def test_a_quotation_of_a_test_leaves_its_head_and_docstring_out() -> None:
    added = [
        "def test_total():",
        '    """Says much."""',
        "    menu = Menu()",
        "    assert total([], menu) == 0",
    ]

    assert quoted(added, Random(0)) == ["menu = Menu()", "assert total([], menu) == 0"]


@pytest.mark.parametrize(
    "path",
    [
        "tests/x.py",
        "a/test_x.py",
        "x_test.go",
        "src/a.spec.ts",
        "docs/conf.py",
        "node_modules/a.js",
        "a.png",
        "README.md",
    ],
)
def test_tests_documentation_and_what_others_wrote_are_no_sources(path: str) -> None:
    assert not is_source(path)
    assert is_source("src/attest/contest.py")


@pytest.mark.parametrize(
    "name", ["django/django", "Django/Django", "someone/xarray", "DS4SD/docling", "docling-project/docling"]
)
def test_what_the_project_is_measured_on_is_refused_by_name_forks_as_well(
    history: History, tmp_path: Path, name: str
) -> None:
    assert ruled_out(name)
    with pytest.raises(ValueError, match="ruled out"):
        history.mined(name)
    listed = _listed(tmp_path, {"repository": name, "licence": "BSD", "split": "train"})
    assert _program(tmp_path, listed) == 2
    assert not (tmp_path / "out").exists()


def test_the_list_that_is_kept_holds_nothing_that_is_ruled_out_and_nothing_twice() -> None:
    kept = Path(main.__code__.co_filename).with_name("repositories.json")
    entries = json.loads(kept.read_text())
    names = [entry["repository"].lower() for entry in entries]

    assert len(set(names)) == len(names) > 100
    assert not [name for name in names if ruled_out(name)]
    assert {entry["split"] for entry in entries} == {"train", "validation"}
    assert all(entry["licence"] for entry in entries)


def test_what_is_there_already_is_not_mined_again_and_the_list_gets_its_figures(
    history: History, tmp_path: Path
) -> None:
    first = _mended(history)
    listed = _listed(tmp_path, {"repository": "someone/kitchen", "licence": "MIT", "split": "train"})
    assert _program(tmp_path, listed) == 0
    target = tmp_path / "out" / "train" / "someone+kitchen.jsonl.gz"
    written = target.read_bytes()
    with gzip.open(target, "rt", encoding="utf-8") as rows:
        assert [json.loads(row)["sha"] for row in rows] == [first]
    (entry,) = json.loads(listed.read_text())
    assert (entry["commit"], entry["pairs"], entry["languages"]) == (first, 1, {"py": 1})

    history.commit("An order may be for nobody at all", order_py=ORDER.replace("not order", "order is None"))
    assert _program(tmp_path, listed) == 0
    assert target.read_bytes() == written

    target.unlink()  # and from the commit that was noted, the same comes out again
    assert _program(tmp_path, listed) == 0
    assert target.read_bytes() == written


def test_a_mirror_that_is_missing_does_not_stop_the_others(
    history: History, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _mended(history)
    listed = _listed(
        tmp_path,
        {"repository": "someone/gone", "licence": "MIT", "split": "train"},
        {"repository": "someone/kitchen", "licence": "MIT", "split": "validation"},
    )

    assert _program(tmp_path, listed) == 1
    assert (tmp_path / "out" / "validation" / "someone+kitchen.jsonl.gz").exists()
    assert "someone/gone" in capsys.readouterr().err


def test_a_copy_that_lacks_an_object_gives_the_pairs_of_the_commits_that_are_whole(history: History) -> None:
    _mended(history)
    changed = ORDER.replace("not order", "order is None")
    history.commit("An order may be for nobody at all", order_py=changed)
    lost = history.git("rev-parse", "HEAD:order.py").strip()
    (history.folder / ".git" / "objects" / lost[:2] / lost[2:]).unlink()

    assert [pair.query for pair in history.mined()] == [LOST]


def _listed(tmp_path: Path, *entries: dict[str, Any]) -> Path:
    listed = tmp_path / "repositories.json"
    listed.write_text(json.dumps(entries))
    return listed


def _program(tmp_path: Path, listed: Path) -> int:
    return main(
        [
            "--repositories", str(listed), "--mirrors", str(tmp_path / "mirrors"), "--out", str(tmp_path / "out"),
            "--processes", "1", "--record",
        ]
    )  # fmt: skip
