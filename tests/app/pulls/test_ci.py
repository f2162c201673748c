"""Failing CI: whose fault it is, what its logs say, and whether it is the failure that was there before."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import DeniedError, InvalidError, MissingError
from app.nouns import FailedCheck
from app.pulls import joblog
from app.pulls.ci import ALL_LIMIT, JOB_LIMIT, Cause, Diagnosis, diagnose

KEY = b"k" * 32
HEAD, BASE = "a" * 40, "b" * 40

PYTEST = """\
##[group]Run pip install -e .
pip install -e .
##[endgroup]
Successfully installed sample-0.1
##[group]Run pytest -q
pytest -q
shell: /usr/bin/bash -e {0}
##[endgroup]
..F.                                                                     [100%]
=================================== FAILURES ===================================
__________________________________ test_total __________________________________

    def test_total():
>       assert total([1, 2, 3]) == 6
E       assert 3 == 6
E        +  where 3 = total([1, 2, 3])

tests/test_total.py:5: AssertionError
=========================== short test summary info ============================
FAILED tests/test_total.py::test_total - assert 3 == 6
1 failed, 3 passed in 0.12s
##[error]Process completed with exit code 1.
Post job cleanup.
[command]/usr/bin/git version
fatal: not a git repository
"""

JEST = """\
##[group]Run npm test
> sample@1.0.0 test
> jest
##[endgroup]
\x1b[0m\x1b[7m\x1b[1m\x1b[31m FAIL \x1b[39m\x1b[22m\x1b[27m\x1b[0m src/total.test.js
  \x1b[1m● \x1b[22mtotal › adds all

    expect(received).toBe(expected) // Object.is equality

    Expected: 6
    Received: 3

      at Object.<anonymous> (src/total.test.js:4:24)

Tests:       1 failed, 4 passed, 5 total
Time:        1.337 s
npm error Lifecycle script `test` failed with error:
npm error code 1
##[error]Process completed with exit code 1.
"""

GO = """\
##[group]Run go test ./...
##[endgroup]
--- FAIL: TestTotal (0.00s)
    total_test.go:9: got 3, want 6
FAIL
FAIL	example.com/sample/total	0.004s
FAIL
##[error]Process completed with exit code 1.
"""

CARGO = """\
##[group]Run cargo test
##[endgroup]
   Compiling sample v0.1.0 (/home/runner/work/sample/sample)
error[E0308]: mismatched types
 --> src/lib.rs:4:5
  |
4 |     "six"
  |     ^^^^^ expected `u32`, found `&str`

error: could not compile `sample` (lib) due to 1 previous error
##[error]Process completed with exit code 101.
"""

TSC = """\
##[group]Run npx tsc --noEmit
##[endgroup]
src/total.ts(4,3): error TS2322: Type 'string' is not assignable to type 'number'.
##[error]src/total.ts(4,3): error TS2322: Type 'string' is not assignable to type 'number'.
##[error]Process completed with exit code 2.
"""

ESLINT = """\
##[group]Run npx eslint .
##[endgroup]

/home/runner/work/sample/sample/src/total.js
  4:7  error  'x' is assigned a value but never used  no-unused-vars

✖ 1 problem (1 error, 0 warnings)

##[error]Process completed with exit code 1.
"""

MAVEN = """\
##[group]Run mvn -B verify
##[endgroup]
[INFO] Running com.example.TotalTest
[ERROR] Tests run: 2, Failures: 1, Errors: 0, Skipped: 0, Time elapsed: 0.04 s <<< FAILURE!
[ERROR] com.example.TotalTest.addsAll -- Time elapsed: 0.011 s <<< FAILURE!
org.opentest4j.AssertionFailedError: expected: <6> but was: <3>
[INFO] BUILD FAILURE
##[error]Process completed with exit code 1.
"""

RUFF = """\
##[group]Run ruff check .
##[endgroup]
src/total.py:1:8: F401 [*] `os` imported but unused
Found 1 error.
##[error]Process completed with exit code 1.
"""

BROKEN_SCRIPT = """\
##[group]Run ./build.sh
##[endgroup]
./build.sh: line 3: makee: command not found
##[error]Process completed with exit code 127.
"""

HEAP = """\
##[group]Run npm run build
##[endgroup]
<--- Last few GCs --->
FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory
Aborted (core dumped)
##[error]Process completed with exit code 134.
"""

COLLECTING = """\
##[group]Run pytest
##[endgroup]
ERROR collecting tests/test_total.py
E   ModuleNotFoundError: No module named 'total'
1 error in 0.08s
##[error]Process completed with exit code 2.
"""

UNKNOWN_PACKAGE = """\
##[group]Run npm ci
##[endgroup]
npm error code E404
npm error 404 Not Found - GET https://registry.npmjs.org/left-padd - Not found
##[error]Process completed with exit code 1.
"""

# A test of a client that meets a refused connection: the code's failure, whatever words it uses.
NETWORK_IN_A_TEST = """\
##[group]Run npm test
##[endgroup]
  ● client › gives up after three tries

    connect ECONNREFUSED 127.0.0.1:4000

Tests:       1 failed, 9 passed, 10 total
##[error]Process completed with exit code 1.
"""

# What the installation met and overcame says nothing about the failure.
OVERCOME = (
    """\
##[group]Run make all
##[endgroup]
npm warn retry ETIMEDOUT, trying again
"""
    + "\n".join(f"step {number} done" for number in range(80))
    + """
make: *** [Makefile:4: all] Error 2
error: the generated file is out of date
##[error]Process completed with exit code 2.
"""
)

OF_THE_CODE = {
    "pytest": (PYTEST, "assert 3 == 6"),
    "jest": (JEST, "● total › adds all"),
    "go test": (GO, "total_test.go:9: got 3, want 6"),
    "cargo": (CARGO, "expected `u32`, found `&str`"),
    "tsc": (TSC, "error TS2322"),
    "eslint": (ESLINT, "no-unused-vars"),
    "maven": (MAVEN, "expected: <6> but was: <3>"),
    "ruff": (RUFF, "F401"),
    "a program's own memory limit": (HEAP, "heap out of memory"),
    "a module that is not there": (COLLECTING, "ModuleNotFoundError"),
    "a package that is not there": (UNKNOWN_PACKAGE, "left-padd"),
    "a broken script": (BROKEN_SCRIPT, "command not found"),
    "a network's word in a test": (NETWORK_IN_A_TEST, "ECONNREFUSED"),
    "trouble that was overcome": (OVERCOME, "out of date"),
}

OF_THE_MACHINE = {
    "npm install without a network": (
        """\
##[group]Run npm ci
##[endgroup]
npm error code ENOTFOUND
npm error syscall getaddrinfo
npm error errno ENOTFOUND
npm error network request to https://registry.npmjs.org/left-pad failed, reason: getaddrinfo ENOTFOUND registry.npmjs.org
npm error network This is a problem related to network connectivity.
##[error]Process completed with exit code 1.
""",
        "network",
    ),
    "pip without a network": (
        """\
##[group]Run pip install -r requirements.txt
##[endgroup]
WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError: Failed to establish a new connection: [Errno -3] Temporary failure in name resolution'
ERROR: Could not find a version that satisfies the requirement flask (from versions: none)
ERROR: No matching distribution found for flask
##[error]Process completed with exit code 1.
""",
        "network",
    ),
    "go without a proxy": (
        """\
##[group]Run go build ./...
##[endgroup]
go: github.com/x/y@v1.0.0: Get "https://proxy.golang.org/x": dial tcp: lookup proxy.golang.org: i/o timeout
##[error]Process completed with exit code 1.
""",
        "network",
    ),
    "maven without its repository": (
        """\
##[group]Run mvn -B verify
##[endgroup]
[ERROR] Failed to execute goal on project sample: Could not resolve dependencies: Could not transfer artifact org.x:y:jar:1 from/to central (https://repo.maven.apache.org/maven2): Connection timed out
[INFO] BUILD FAILURE
##[error]Process completed with exit code 1.
""",
        "network",
    ),
    "a registry that answers 503": (
        """\
##[group]Run npm ci
##[endgroup]
npm error code E503
npm error 503 Service Unavailable - GET https://registry.npmjs.org/left-pad
##[error]Process completed with exit code 1.
""",
        "answered with an error",
    ),
    "apt without a network": (
        """\
##[group]Run sudo apt-get install -y jq
##[endgroup]
E: Failed to fetch http://archive.ubuntu.com/ubuntu/pool/jq.deb  Temporary failure resolving 'archive.ubuntu.com'
E: Unable to fetch some archives, maybe run apt-get update or try with --fix-missing?
##[error]Process completed with exit code 100.
""",
        "network",
    ),
    "GitHub that answers 500": (
        """\
##[group]Run actions/checkout@v5
##[endgroup]
fatal: unable to access 'https://github.com/octo/sample/': The requested URL returned error: 500
##[error]The process '/usr/bin/git' failed with exit code 128
""",
        "answered with an error",
    ),
    "docker's pull limit": (
        """\
##[command]/usr/bin/docker pull postgres:16
Error response from daemon: toomanyrequests: You have reached your unauthenticated pull rate limit. https://www.docker.com/increase-rate-limit
##[error]Docker pull failed with exit code 1
""",
        "rate limit",
    ),
    "an image that is not there": (
        """\
##[command]/usr/bin/docker pull ghcr.io/x/y:1
Error response from daemon: manifest for ghcr.io/x/y:1 not found: manifest unknown
##[error]Docker pull failed with exit code 1
""",
        "container image",
    ),
    "a runner that was shut down": (
        """\
##[group]Run pytest -q
##[endgroup]
.......
##[error]The runner has received a shutdown signal. This can happen when the runner service is stopped, or a manually started runner is canceled.
##[error]Process completed with exit code 143.
##[error]The operation was canceled.
Cleaning up orphan processes
""",
        "stopped or lost",
    ),
    "a machine out of memory": (
        """\
##[group]Run make build
##[endgroup]
cc1plus: compiling
make: *** [Makefile:12: all] Killed
##[error]Process completed with exit code 137.
""",
        "memory",
    ),
    "a full disk": (
        """\
##[group]Run docker build .
##[endgroup]
failed to copy files: write /var/lib/docker/tmp/x: no space left on device
##[error]Process completed with exit code 1.
""",
        "disk space",
    ),
    "GitHub's own limit": (
        """\
##[group]Run ./release-notes.sh
##[endgroup]
HTTP 403: API rate limit exceeded for installation ID 1.
##[error]Process completed with exit code 1.
""",
        "rate limit",
    ),
}


async def at_once(_: float) -> None:
    """Nobody waits."""


def stamped(log: str) -> str:
    """As GitHub keeps it."""
    return "\ufeff" + "\n".join(
        f"2026-11-01T12:00:{n % 60:02d}.1234567Z {x}" for n, x in enumerate(log.split("\n"))
    )


def failed(name: str = "test", job_id: int | None = 1, **changes: Any) -> FailedCheck:
    return replace(FailedCheck(name, "failure", "https://github.com/x", job_id, ("Run tests",)), **changes)


async def of(
    github: Any, *checks: FailedCheck, before: tuple[FailedCheck, ...] = (), **logs: str
) -> Diagnosis:
    github.failed = {HEAD: list(checks), BASE: list(before)}
    github.logs = {int(name[3:]): stamped(log) for name, log in logs.items()}
    return await diagnose(github, HEAD, BASE, KEY, sleep=at_once)


@pytest.mark.parametrize("kind", OF_THE_CODE)
async def test_what_a_test_a_compiler_or_a_linter_says_is_ours_and_is_shown(github: Any, kind: str) -> None:
    log, telling = OF_THE_CODE[kind]
    said = await of(github, failed(), job1=log)
    (one,) = said.ours
    assert telling in one.excerpt
    assert "\x1b" not in one.excerpt
    assert "2026-11-01T" not in one.excerpt
    assert "not a git repository" not in one.excerpt, "what cleans up afterwards is no reason"
    assert said.excerpts[0].startswith("test (step: Run tests): failure")
    assert said.fingerprint


@pytest.mark.parametrize("kind", OF_THE_MACHINE)
async def test_what_the_machine_or_the_network_did_is_not_ours(github: Any, kind: str) -> None:
    log, why = OF_THE_MACHINE[kind]
    said = await of(github, failed(), job1=log)
    (one,) = said.infrastructure
    assert why in one.why
    assert not said.ours
    assert said.excerpts == ()
    assert said.fingerprint == ""


@pytest.mark.parametrize(
    ("conclusion", "why"),
    [
        ("cancelled", "cancelled"),
        ("startup_failure", "could not be started"),
        ("stale", "gave up waiting"),
        ("action_required", "approval"),
        ("timed_out", "longer"),
    ],
)
async def test_what_never_ran_to_its_end_is_not_ours(github: Any, conclusion: str, why: str) -> None:
    said = await of(github, failed(conclusion=conclusion, steps=()), job1="##[group]Run it\nstill going\n")
    (one,) = said.infrastructure
    assert why in one.why
    assert "another" not in one.why


async def test_what_cleans_up_is_no_part_of_a_log_that_marks_no_error(github: Any) -> None:
    log = "AssertionError: 3 != 6\nPost job cleanup.\nfatal: not a git repository\n"
    said = await of(github, failed(), job1=log)
    assert said.ours[0].excerpt == "AssertionError: 3 != 6"


async def test_a_test_that_ran_out_of_time_may_be_ours(github: Any) -> None:
    said = await of(github, failed(conclusion="timed_out"), job1=PYTEST)
    assert said.ours


async def test_a_runner_that_was_lost_leaves_no_log_but_its_check_says_so(github: Any) -> None:
    words = "The self-hosted runner lost communication with the server. Verify the machine is running."
    said = await of(github, failed(said=words))
    assert "stopped or lost" in said.infrastructure[0].why


@pytest.mark.parametrize(
    "words", ["", "Process completed with exit code 1.", "Build failed", "Contributor agreement not signed"]
)
async def test_what_nobody_can_read_is_not_worked_on(github: Any, words: str) -> None:
    said = await of(github, failed(job_id=None, said=words))
    assert "nothing that says why" in said.infrastructure[0].why


async def test_a_check_without_a_job_is_read_by_what_it_says_itself(github: Any) -> None:
    said = await of(github, failed("lint/external", None, said="src/a.py:3:1: F401 unused import", steps=()))
    assert "F401" in said.excerpts[0]


@pytest.mark.parametrize("error", [MissingError(), DeniedError(), InvalidError(reason="log_too_large")])
async def test_a_log_that_is_gone_is_replaced_by_what_the_check_says(github: Any, error: Exception) -> None:
    async def gone(job_id: int, *, last_bytes: int) -> str:
        raise error

    github.job_log = gone
    said = await of(github, failed(said="tests/test_total.py: AssertionError: 3 != 6"))
    assert "3 != 6" in said.excerpts[0]


@pytest.mark.parametrize(("error", "asked"), [(MissingError(), 2), (MissingError(reason="log_expired"), 1)])
async def test_a_log_that_is_not_found_at_once_is_looked_for_again(
    github: Any, error: Exception, asked: int
) -> None:
    """But for one that GitHub says it keeps no longer."""
    wanted: list[int] = []

    async def late(job_id: int, *, last_bytes: int) -> str:
        wanted.append(job_id)
        if len(wanted) == 1:
            raise error
        return stamped(PYTEST)[-last_bytes:]

    github.job_log = late
    said = await of(github, failed())
    assert len(wanted) == asked
    assert bool(said.ours) == (asked == 2)


async def test_what_fails_on_the_base_alike_is_not_ours(github: Any) -> None:
    later = PYTEST.replace("0.12s", "0.31s").replace("3 passed", "4 passed")
    said = await of(github, failed(), before=(failed(job_id=2),), job1=later, job2=PYTEST)
    assert [one.cause for one in said.found] == [Cause.ON_BASE]
    assert "without this change too" in said.on_base[0].why


async def test_a_new_failure_in_a_check_that_failed_before_is_ours(github: Any) -> None:
    more = PYTEST.replace(
        "1 failed, 3 passed", "FAILED tests/test_other.py::test_new - KeyError: 'x'\n2 failed, 2 passed"
    )
    said = await of(github, failed(), before=(failed(job_id=2),), job1=more, job2=PYTEST)
    assert said.ours


async def test_a_base_whose_log_cannot_be_read_counts_as_failing(github: Any) -> None:
    said = await of(github, failed(), before=(failed(job_id=2),), job1=PYTEST)
    assert said.on_base


async def test_others_of_a_matrix_are_cancelled_and_told_so(github: Any) -> None:
    cancelled = failed("test (3.12)", 2, conclusion="cancelled", steps=())
    said = await of(
        github, failed("test (3.11)"), cancelled, job1=PYTEST, job2="##[error]The operation was canceled."
    )
    assert [one.check.name for one in said.ours] == ["test (3.11)"]
    assert said.infrastructure[0].why == "it was cancelled when another failed"


async def test_nothing_failed_is_an_empty_diagnosis_that_asks_no_more(github: Any) -> None:
    assert await of(github) == Diagnosis((), "")


# --- the same failure ------------------------------------------------------------------------------------------------


async def test_the_same_failure_is_known_again_on_another_commit(github: Any) -> None:
    first = await of(github, failed(), job1=PYTEST)
    again = (
        PYTEST.replace("test_total.py:5", "test_total.py:17")
        .replace("0.12s", "2.4s")
        .replace("3 passed", "8 passed")
    )
    second = await of(github, failed(job_id=9), job9=again)
    assert second.fingerprint == first.fingerprint
    other = await of(github, failed(), job1=PYTEST.replace("test_total", "test_mean"))
    assert other.fingerprint != first.fingerprint
    assert (await of(github, failed("lint"), job1=PYTEST)).fingerprint != first.fingerprint
    assert (await of(github, failed(steps=("Other",)), job1=PYTEST)).fingerprint != first.fingerprint


async def test_a_fingerprint_is_told_by_nobody_without_the_key_and_says_nothing_of_the_code(
    github: Any,
) -> None:
    first = await of(github, failed(), job1=PYTEST)
    elsewhere = await diagnose(github, HEAD, BASE, b"other" * 8, sleep=at_once)
    assert first.fingerprint != elsewhere.fingerprint
    assert len(first.fingerprint) == 64


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("error at 0x7ffd10 after 1.2s", "error at 0xdeadbeef after 14 ms"),
        ("Error: /tmp/pytest-of-runner/pytest-0/x: gone", "Error: /tmp/tmpab12/y: gone"),
        ("fatal: bad object 1a2b3c4d5e6f", "fatal: bad object 99aabbccddee1"),
        (
            "Error in run 6fa459ea-ee8a-3ca4-894e-db77e160355e",
            "Error in run 16fd2706-8baf-433b-82eb-8c7fada847da",
        ),
        ("/home/runner/work/a/a/src/x.py:3: error: no", "/__w/b/b/src/x.py:44: error: no"),
        ("3 failed, 4 passed in 0.12s", "3 failed, 91 passed in 12.01s"),
        ("2026-11-01 12:00:00 ERROR no", "2027-01-02T03:04:05.678Z ERROR no"),
    ],
)
def test_what_varies_between_two_alike_is_taken_out(one: str, other: str) -> None:
    assert joblog.normal(one) == joblog.normal(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("FAILED tests/a.py::test_one", "FAILED tests/a.py::test_two"),
        ("error: no such module: total", "error: no such module: mean"),
        ("undefined reference to deadbeef", "undefined reference to cafe"),
    ],
)
def test_what_tells_two_failures_apart_is_kept(one: str, other: str) -> None:
    assert joblog.normal(one) != joblog.normal(other)


@given(st.lists(st.sampled_from(["FAILED a", "FAILED b", "E   1 == 2", "ok"]), max_size=8), st.randoms())
def test_the_order_of_failures_makes_no_other_failure(lines: list[str], chance: random.Random) -> None:
    shuffled = list(lines)
    chance.shuffle(shuffled)
    assert (
        joblog.read("\n".join(lines), limit=99_999).errors
        == joblog.read("\n".join(shuffled), limit=99_999).errors
    )


# --- excerpts --------------------------------------------------------------------------------------------------------


async def test_excerpts_stay_within_their_limits_and_keep_the_last_error(github: Any) -> None:
    noise = "\n".join(f"tests/test_{n}.py: error: number {n} is wrong {'x' * 900}" for n in range(900))
    log = (
        f"##[group]Run it\n{noise}\nFAILED tests/the_last.py\n##[error]Process completed with exit code 1.\n"
    )
    checks = [failed(f"job {n}", n) for n in range(1, 9)]
    said = await of(github, *checks, **{f"job{n}": log for n in range(1, 9)})
    assert len(said.ours) == 8
    assert all(len(one.excerpt) <= JOB_LIMIT for one in said.ours)
    assert "the_last" in said.ours[0].excerpt
    assert sum(len(text) for text in said.excerpts) <= ALL_LIMIT
    assert len(said.excerpts) >= 3


@given(
    st.lists(st.text(alphabet="ab ERorf:[]#\x1b\n", max_size=80), max_size=60).map("\n".join),
    st.integers(200, 3_000),
)
def test_an_excerpt_is_never_longer_than_allowed(log: str, limit: int) -> None:
    assert len(joblog.read(log, limit=limit).excerpt) <= limit


async def test_only_so_many_logs_are_read(github: Any) -> None:
    asked: list[int] = []
    original = github.job_log

    async def counted(job_id: int, *, last_bytes: int) -> str:
        asked.append(last_bytes)
        return await original(job_id, last_bytes=last_bytes)

    github.job_log = counted
    said = await of(
        github, *(failed(f"job {n:02}", n) for n in range(30)), **{f"job{n}": PYTEST for n in range(30)}
    )
    assert asked == [200_000] * 10
    assert len(said.found) == 30
    assert "too much" in said.infrastructure[0].why


@pytest.mark.parametrize(
    "secret",
    [
        "ghs_1234_eyJhbGciOi.JIUzI1NiIsInR5cCI.6IkpXVCJ9",
        "github_pat_11ABCDEFG0aaaaaaaaaaaa_bbbbbbbbbb",
        "AKIAIOSFODNN7EXAMPLE",
        "sk-proj-abcdefghijklmnopqrstuvwx",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abcdefghijk",
        "xoxb-1234567890-abcdefghij",
        "npm_abcdefghijklmnopqrstuvwxyz0123456789",
    ],
)
def test_what_looks_like_a_secret_is_masked(secret: str) -> None:
    log = f"##[group]Run it\nerror: token was {secret} there\n##[error]Process completed with exit code 1."
    said = joblog.read(log, limit=1_000).excerpt
    assert secret not in said
    assert "***" in said


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("error: https://user:hunter22@example.com/x", "error: https://***@example.com/x"),
        ("Error: PASSWORD=correct-horse", "Error: PASSWORD***"),
        ("error: Authorization: Bearer abcdefghijklmnop", "error: Authorization: Bearer ***"),
        ("error: -----BEGIN RSA PRIVATE KEY-----", "error: ***"),
        ("error: unexpected token ;", "error: unexpected token ;"),
        ("error: the secret is out", "error: the secret is out"),
    ],
)
def test_secrets_beside_their_names_are_masked_and_plain_words_are_not(line: str, shown: str) -> None:
    assert joblog.plain(line) == shown


def test_a_hostile_log_is_read_in_reasonable_time() -> None:
    import time

    pieces = [
        "\x1b]" * 50_000,
        "eyJ" * 60_000,
        "-----BEGIN " * 20_000,
        "/tmp/" * 40_000,
        "a:b" * 60_000,
        "1." * 90_000,
    ]
    for piece in pieces:
        begun = time.process_time()
        joblog.read(f"error: {piece[:200_000]}", limit=6_000)
        assert time.process_time() - begun < 2, piece[:12]
