"""Tests that are deleted or switched off are found by plain code, in each language; what only looks like it is not."""

from __future__ import annotations

import time

import pytest

from app.agent.weakened import is_test_file, weakened_tests
from app.nouns import FileEdit

TWO = b"def test_one():\n    assert one() == 1\n\n\ndef test_two():\n    assert two() == 2\n"


def edit(path: str, before: str | bytes | None, after: str | bytes | None) -> FileEdit:
    told = [text.encode() if isinstance(text, str) else text for text in (before, after)]
    return FileEdit(path, *told)


# --- switched off ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("tests/test_a.py", "@pytest.mark.skip"),
        ("tests/test_a.py", "    @pytest.mark.skipif(True, reason='x')"),
        ("tests/test_a.py", "@pytest.mark.xfail(strict=False)"),
        ("tests/test_a.py", "    pytest.skip('later')"),
        ("tests/test_a.py", "pytestmark = pytest.mark.skip"),
        ("tests/test_a.py", "    pytest.param(3, marks=pytest.mark.xfail),"),
        ("tests/test_a.py", "    @unittest.expectedFailure"),
        ("tests/test_a.py", "        self.skipTest('x')"),
        ("tests/conftest.py", "collect_ignore = ['test_b.py']"),
        ("src/a.test.ts", "it.skip('adds', () => {"),
        ("src/a.test.ts", "describe.only('a', () => {"),
        ("src/a.test.ts", "test.concurrent.skip('adds', async () => {"),
        ("src/a.spec.js", "xit('adds', () => {"),
        ("src/a.spec.js", "fdescribe('a', () => {"),
        ("src/a.test.tsx", "test.todo('adds')"),
        ("src/__tests__/a.js", "  this.skip()"),
        ("pkg/a_test.go", '\tt.Skip("flaky")'),
        ("pkg/a_test.go", "\tt.SkipNow()"),
        ("src/lib.rs", "    #[ignore]"),
        ("src/lib.rs", '    #[ignore = "later"]'),
        ("src/test/java/ATest.java", '    @Disabled("later")'),
        ("src/test/kotlin/ATest.kt", "    @Ignore"),
        ("Shop.Tests/ATests.cs", '    [Fact(Skip = "later")]'),
        ("Shop.Tests/ATests.cs", "    [Ignore]"),
        ("spec/a_spec.rb", "  xit 'adds' do"),
        ("spec/a_spec.rb", "  it 'adds', skip: true do"),
        ("spec/a_spec.rb", "    pending 'later'"),
        ("tests/ATest.php", "        $this->markTestSkipped('later');"),
        ("tests/ATest.php", "})->skip('later');"),
        ("Tests/ATests.swift", '        throw XCTSkip("later")'),
        ("test/a_test.cc", "  GTEST_SKIP() << 1;"),
        ("test/a_test.cc", "TEST(Shop, DISABLED_Adds) {"),
        ("test/a_test.exs", "  @tag :skip"),
        ("test/a_test.dart", "  }, skip: true);"),
        ("test/a.bats", "  skip 'later'"),
        ("pyproject.toml", 'addopts = "--deselect tests/test_a.py::test_b"'),
        ("package.json", '    "testPathIgnorePatterns": ["a"]'),
    ],
)
def test_a_mark_that_switches_a_test_off_is_found_where_it_is_added(path: str, line: str) -> None:
    (found,) = weakened_tests([edit(path, "first\nlast\n", f"first\n{line}\nlast\n")])
    assert found.startswith(f"Tests switched off: `{path}` line 2 adds `")
    assert weakened_tests([edit(path, f"first\n{line}\n", f"{line}\nfirst\n")]) == ()
    assert "switched off" not in str(weakened_tests([edit(path, f"first\n{line}\n", "first\n")]))


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("src/model.py", "    pytest.skip('not a test file')"),
        ("tests/test_a.py", "    skipped = response.skip"),
        ("tests/test_a.py", "    model.fit(x)"),
        ("src/train.js", "fit(model)"),
        ("src/a.test.ts", "  expect(list.skip(3)).toEqual([])"),
        ("src/a.test.ts", "  await exit(3)"),
        ("pkg/a_test.go", "\tscanner.Skip(3)"),
        ("src/lib.rs", "    ignore(3);"),
        ("spec/a_spec.rb", "    skip = 3"),
        ("spec/a_spec.rb", "    profit(3)"),
        ("src/Main.java", "    @Disabled"),
        ("docs/tests.md", "@pytest.mark.skip"),
        ("package.json", '    "skip": "x"'),
    ],
)
def test_what_only_looks_like_it_is_left_alone(path: str, line: str) -> None:
    assert weakened_tests([edit(path, "first\n", f"first\n{line}\n")]) == ()


def test_moving_a_mark_is_nothing_new_and_a_second_one_is() -> None:
    skip = "@pytest.mark.skip\n"
    assert weakened_tests([edit("test_a.py", skip + "x\n", "x\n" + skip)]) == ()
    assert len(weakened_tests([edit("test_a.py", skip + "x\n", skip + "x\n" + skip)])) == 1


# --- deleted ---------------------------------------------------------------------------------------------------------


def test_a_deleted_test_is_named() -> None:
    (found,) = weakened_tests([edit("tests/test_a.py", TWO, TWO.partition(b"\n\n\n")[0] + b"\n")])
    assert found == "Tests deleted: `tests/test_a.py` no longer has its test `test_two`."


def test_a_deleted_test_beside_a_new_one_elsewhere_is_found() -> None:
    one = TWO.partition(b"\n\n\n")[0]
    after = b"def test_zero():\n    assert zero() == 0\n\n\n" + one + b"\n"
    (found,) = weakened_tests([edit("tests/test_a.py", TWO, after)])
    assert "`test_two`" in found


def test_a_test_that_is_commented_out_is_gone() -> None:
    (found,) = weakened_tests([edit("test_a.py", TWO, TWO.replace(b"def test_two", b"# def test_two"))])
    assert "`test_two`" in found


def test_a_test_that_is_renamed_in_its_place_is_still_there() -> None:
    assert weakened_tests([edit("test_a.py", TWO, TWO.replace(b"test_two", b"test_second"))]) == ()


def test_a_test_that_moves_to_another_file_is_still_there() -> None:
    moved = [edit("test_a.py", TWO, None), edit("test_b.py", None, TWO)]
    assert weakened_tests(moved) == ()


def test_a_test_that_stood_twice_and_moves_once_is_missed() -> None:
    twice = [edit("test_a.py", TWO, None), edit("test_c.py", TWO, None), edit("test_b.py", None, TWO)]
    (found,) = weakened_tests(twice)
    assert "`test_c.py` is removed" in found


def test_a_renamed_test_whose_mark_stands_above_it_is_still_there() -> None:
    text = "#[test]\nfn adds() {\n    assert!(true);\n}\n"
    assert weakened_tests([edit("src/lib.rs", text, text.replace("adds", "sums"))]) == ()
    assert weakened_tests([edit("src/lib.rs", text, text.replace("#[test]\n", ""))]) != ()


def test_helpers_of_test_files_are_no_tests() -> None:
    java = "    @BeforeEach\n    void setUp() {\n    }\n"
    assert weakened_tests([edit("src/test/java/ATest.java", java, "\n")]) == ()
    assert weakened_tests([edit("tests/test_a.py", "def helper():\n    pass\n", "\n")]) == ()


@pytest.mark.parametrize(
    "text", ["\n" * 390_000, "@Test\n" * 60_000, "  [Fact]\n" * 40_000, "@Test " * 60_000, "it('" * 100_000]
)
@pytest.mark.parametrize(
    "path", ["ATest.java", "ATests.cs", "test_a.py", "a.test.ts", "src/lib.rs", "spec/a_spec.rb"]
)
def test_hostile_files_cost_little_time(path: str, text: str) -> None:
    start = time.process_time()
    weakened_tests([edit(path, text, text[: len(text) // 2])])
    assert time.process_time() - start < 5


def test_many_deleted_tests_are_counted() -> None:
    many = "".join(f"def test_{number}():\n    pass\n" for number in range(9))
    (found,) = weakened_tests([edit("test_a.py", many, None)])
    assert found.endswith("its tests `test_0`, `test_1`, `test_2`, `test_3`, `test_4` and 4 more.")


@pytest.mark.parametrize(
    ("path", "text", "name"),
    [
        ("src/a.test.ts", "it('adds two', () => {\n})\n", "adds two"),
        ("src/a.test.ts", '  test.each([1])("adds %d", () => {\n})\n', "adds %d"),
        ("pkg/a_test.go", "func TestAdds(t *testing.T) {\n}\n", "TestAdds"),
        ("src/lib.rs", "    #[test]\n    // slow\n    fn adds() {\n}\n", "adds"),
        ("src/test/java/ATest.java", "    @Test\n    @Timeout(3)\n    void addsTwo() {\n    }\n", "addsTwo"),
        ("src/test/kotlin/ATest.kt", "    @Test\n    fun `adds two`() {\n    }\n", "adds two"),
        ("Shop.Tests/ATests.cs", "    [Fact]\n    public async Task Adds() {}\n", "Adds"),
        ("spec/a_spec.rb", "  it 'adds two' do\n  end\n", "adds two"),
        ("tests/ATest.php", "    public function testAdds(): void\n    {}\n", "testAdds"),
        ("Tests/ATests.swift", "    func testAdds() {\n    }\n", "testAdds"),
        ("Tests/ATests.swift", "    @Test\n    func adds() {\n    }\n", "adds"),
        ("src/test/scala/ATest.scala", '  test("adds two") {\n  }\n', "adds two"),
        ("test/a_test.cc", "TEST(Shop, Adds) {\n}\n", "Shop, Adds"),
        ("test/a_test.exs", '  test "adds two" do\n  end\n', "adds two"),
        ("test/a_test.dart", "  test('adds two', () {\n  });\n", "adds two"),
        ("test/a.bats", '@test "adds two" {\n}\n', "adds two"),
    ],
)
def test_tests_are_known_in_each_language(path: str, text: str, name: str) -> None:
    (found,) = weakened_tests([edit(path, text, "\n")])
    assert f"`{name}`" in found


def test_new_files_and_sources_are_no_deleted_tests() -> None:
    assert weakened_tests([edit("test_a.py", None, TWO)]) == ()
    assert weakened_tests([edit("src/a.py", "def test_connection():\n    pass\n", "x\n")]) == ()
    assert weakened_tests([edit("tests/logo.png", b"\0def test_one():", b"\0")]) == ()


@pytest.mark.parametrize(
    ("path", "so"),
    [
        ("tests/a.py", True),
        ("test_a.py", True),
        ("a_test.go", True),
        ("src/a.test.ts", True),
        ("src/a.spec.tsx", True),
        ("ATest.java", True),
        ("Shop/CartTests.cs", True),
        ("src/Latest.java", False),
        ("src/contest.py", False),
        ("src/attestation/a.py", False),
        ("testimony.py", False),
    ],
)
def test_a_test_file_is_known_by_its_name(path: str, so: bool) -> None:
    assert is_test_file(path) is so
