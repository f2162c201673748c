"""What is played: each scenario is a request from its comment to its end, with words of its own in all that it says.

Another one is another `Scenario` in `SCENARIOS`: what it plants, what the model answers, what people do, how its runs end.
"""

from __future__ import annotations

import base64
import json
import signal
import subprocess
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from app.nouns import Run
from app.prove.stage import Stage
from app.prove.words import Canary, plant
from infra.models.playbook import Playbook
from infra.simulator.ci import CiJob, Code, failing, passing

MAIN = "octo/fairshare"
OTHER = "octo/tidewater"
BROKEN = "octo/misread"
SLOW_SECONDS = 120.0
_CHECK_SLEEPS = "6.31"

Turn = Mapping[str, Any]
End = tuple[str, str, str | None]
"""A run's verb, state and reason."""


class Words:
    """The words of all sources. `words("issue body")` is what is said there: all of its words."""

    def __init__(self, planted: Mapping[str, Sequence[Canary]]) -> None:
        self._planted = planted

    def __call__(self, source: str) -> str:
        return " ".join(one.word for one in self._planted[source])

    def one(self, source: str, number: int = 0) -> str:
        return self._planted[source][number].word

    @property
    def canaries(self) -> list[Canary]:
        return [one for several in self._planted.values() for one in several]


@dataclass(frozen=True, slots=True)
class Scenario:
    """`plants` names its sources beside its own request; `ends` how its runs end, oldest first.

    `crash`: while it is `struck`, the service gets this signal, and has to be started again.
    """

    name: str
    turns: Callable[[Words], Sequence[Turn]]
    play: Callable[[Stage, Words], Awaitable[Sequence[Run]]]
    ends: tuple[End, ...]
    plants: tuple[str, ...] = ()
    crash: signal.Signals | None = None
    struck: Callable[[Stage, Words], Awaitable[bool]] | None = None
    when: str = ""
    """What the first text must hold for this model to answer; its request's word when left out."""

    @property
    def request(self) -> str:
        """The source that its comment is."""
        return f"comment: {self.name}"


# --- what a model says -----------------------------------------------------------------------------------------------


def call(tool: str, **arguments: Any) -> dict[str, Any]:
    return {"calls": [{"tool": tool, "arguments": arguments}]}


def finish(title: str = "Write it", summary: str = "It was missing.", **more: Any) -> dict[str, Any]:
    return call("finish", title=title, summary=summary, checked_how="Read it again.", **more)


def note(path: str, text: str) -> list[Turn]:
    """A change that writes one file."""
    return [call("create", path=path, text=text), finish()]


# --- a change, failing checks, failing CI, a review -------------------------------------------------------------------


def _change(words: Words) -> Sequence[Turn]:
    path = code_path(words)
    reads = {**call("read", path=path), "say": words("model: text")}
    edits = call("edit", path=path, old=words.one("code"), new=f"{words.one('code')} {words('model: edit')}")
    told = finish(f"Say {words('model: title')}", words("model: summary"))
    mends = call("edit", path="NOTES.md", old="tpyo", new=words("model: after the check"))
    return [
        reads,
        call("grep", pattern=words.one("code", 1)),
        call("search", question=words("model: question")),
        edits,
        call("create", path="NOTES.md", text="A tpyo.\n"),
        told,
        mends,
        told,
    ]


async def _play_change(stage: Stage, words: Words) -> Sequence[Run]:
    number = await stage.ask(
        words("issue title"),
        words("issue body"),
        f"@magicode fix this {words('comment: a change')}",
        labels=words("label").split(),
    )
    await stage.ended(number)
    pulls = await stage.call("GET", "/pulls?state=all")
    pull = next(int(one["number"]) for one in pulls if one["head"]["ref"] == f"magicode/issue-{number}")
    await stage.ended(pull, 1)  # failing CI is mended
    wish = {"path": "NOTES.md", "line": 1, "body": f"@magicode please say {words('review comment')}"}
    await stage.call(
        "POST", f"/pulls/{pull}/reviews", event="REQUEST_CHANGES", body=words("review"), comments=[wish]
    )
    return [*await stage.ended(number), *await stage.ended(pull, 2)]


def _mend(_words: Words) -> Sequence[Turn]:
    return [call("edit", path="NOTES.md", old="A ", new="Another "), finish()]


def _revise(words: Words) -> Sequence[Turn]:
    told = finish()
    told["calls"][0]["arguments"]["replies"] = [{"comment_id": "{thread:int}", "text": words("model: reply")}]
    return [
        call("edit", path="NOTES.md", old="Another ", new="One more "),
        {**told, "capture": [r"(?s)comment_id[=\" :]+(?P<thread>\d+)"]},
    ]


def ci(words: Words) -> Callable[[Code], list[CiJob]]:
    """Fails until the note has been mended."""

    def verdict(code: Code) -> list[CiJob]:
        if not code.text("NOTES.md").startswith("A "):
            return [passing("tests")]
        log = f"E       AssertionError: {words('CI log')}\nFAILED tests/test_note.py::test_it - AssertionError\n"
        return [failing("tests", log, annotations=[("NOTES.md", 1, words("CI annotation"))])]

    return verdict


# --- the others ------------------------------------------------------------------------------------------------------


def _asks(
    name: str, verb: str = "fix", *, repository: str = ""
) -> Callable[[Stage, Words], Awaitable[Sequence[Run]]]:
    """An issue of its own, one comment, one run."""

    async def play(stage: Stage, words: Words) -> Sequence[Run]:
        comment = f"@magicode {verb} {words(f'comment: {name}')}"
        number = await stage.ask("A note is missing", words("issue body"), comment, repository=repository)
        return await stage.ended(number, repository=repository)

    return play


def _cancelled(name: str, once: str) -> Callable[[Stage, Words], Awaitable[Sequence[Run]]]:
    """It is cancelled when the model has been asked about what `once` says."""

    async def play(stage: Stage, words: Words) -> Sequence[Run]:
        comment = f"@magicode fix {words(f'comment: {name}')}"
        number = await stage.ask("A note is missing", words("issue body"), comment)
        await stage.until(lambda: stage.asked_about(words.one(once)), "the model to be asked")
        await stage.comment(number, "@magicode cancel")
        return await stage.ended(number, 2)

    return play


async def _play_github_refuses(stage: Stage, words: Words) -> Sequence[Run]:
    await stage.fault(
        kind="status", method="POST", route=f"{OTHER}/git/commits", status=422, times=50,
        message=words("GitHub's error: refuses"),
    )  # fmt: skip
    await stage.fault(
        kind="status", method="GET", route=f"{OTHER}/tarball", status=502, times=1,
        message=words("GitHub's error: fails"),
    )  # fmt: skip
    play = _asks("GitHub refuses", repository=OTHER)
    return await play(stage, words)


async def _play_bystander(stage: Stage, words: Words) -> Sequence[Run]:
    """Somebody without write access has something to say as well."""
    name = "a question"
    issue = await stage.call("POST", "/issues", user="rita", title="Why", body=words("issue body"))
    number = int(issue["number"])
    await stage.comment(number, f"I think {words('comment by a reader')}", user="rita")
    await stage.comment(number, f"@magicode explain {words(f'comment: {name}')}")
    return await stage.ended(number)


def _asked(source: str) -> Callable[[Stage, Words], Awaitable[bool]]:
    """The model has been asked, and falls silent."""
    return lambda stage, words: stage.asked_about(words.one(source))


async def _checks_run(_stage: Stage, _words: Words) -> bool:
    """The sandbox sleeps."""
    for process in psutil.process_iter(["cmdline"]):
        if (process.info["cmdline"] or [])[-2:] == ["sleep", _CHECK_SLEEPS]:
            return True
    return False


def _silent(turn: Turn) -> Turn:
    return {**turn, "slow": {"seconds": SLOW_SECONDS}}


def _busy(status: int, message: str, times: int) -> Turn:
    return {"overload": {"status": status, "times": times, "retry_after_seconds": 0, "message": message}}


_CANCELLED: tuple[End, ...] = (("fix", "cancelled", "cancelled"), ("cancel", "answered", "cancel"))

SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        "killed while the model is silent",
        lambda words: [
            _silent(call("create", path="ONE.md", text=words("model: of a killed run"))),
            finish(),
        ],
        _asks("killed while the model is silent"),
        (("fix", "opened", "opened"),),
        plants=("model: of a killed run",),
        crash=signal.SIGKILL,
        struck=_asked("comment: killed while the model is silent"),
    ),
    Scenario(
        "killed while checks run",
        lambda words: note("SLOW.md", words("model: of a run killed in its checks")),
        _asks("killed while checks run"),
        (("fix", "opened", "opened"),),
        plants=("model: of a run killed in its checks",),
        crash=signal.SIGKILL,
        struck=_checks_run,
    ),
    Scenario(
        "aborted while the model is silent",
        lambda words: [
            _silent(call("create", path="TWO.md", text=words("model: of an aborted run"))),
            finish(),
        ],
        _asks("aborted while the model is silent"),
        (("fix", "opened", "opened"),),
        plants=("model: of an aborted run",),
        crash=signal.SIGABRT,
        struck=_asked("comment: aborted while the model is silent"),
    ),
    Scenario(
        "failing CI",
        _mend,
        _play_change,  # a part of the change's own play
        (),
        plants=("CI log", "CI annotation"),
        when="CI log",
    ),
    Scenario(
        "a review",
        _revise,
        _play_change,
        (),
        plants=("review", "review comment", "model: reply"),
        when="review comment",
    ),
    Scenario(
        "a change",
        _change,
        _play_change,
        (("fix", "opened", "opened"), ("mend", "updated", "mended"), ("revise", "updated", "updated")),
        plants=(
            "code",
            "file path",
            "branch name",
            "commit message",
            "agent instructions",
            "issue title",
            "issue body",
            "label",
            "model: text",
            "model: question",
            "model: edit",
            "model: title",
            "model: summary",
            "model: after the check",
            "model: second look",
            "check output",
        ),
    ),
    Scenario(
        "a plan",
        lambda words: [
            call(
                "plan",
                summary=words("model: plan"),
                files=[{"path": "NOTES.md", "change": words("model: plan")}],
                steps=[words("model: plan")],
                risks=[words("model: plan")],
            )
        ],
        _asks("a plan", "plan"),
        (("plan", "answered", "planned"),),
        plants=("model: plan",),
    ),
    Scenario(
        "a question",
        lambda words: [call("answer", kind="finding", text=words("model: answer"))],
        _play_bystander,
        (("explain", "answered", "explained"),),
        plants=("model: answer", "comment by a reader"),
    ),
    Scenario(
        "a secret in the patch",
        lambda words: note(
            "KEYS.md", f'key = "AKIA{words.one("model: a secret").upper()}QX"\n{words("model: a secret")}\n'
        ),
        _asks("a secret in the patch"),
        (("fix", "refused", "secret"),),
        plants=("model: a secret",),
    ),
    Scenario(
        "a forbidden path in the patch",
        lambda words: note(
            f".github/workflows/{words.one('model: a forbidden path')}.yml", words("model: a forbidden path")
        ),
        _asks("a forbidden path in the patch"),
        (("fix", "refused", "path_git"),),
        plants=("model: a forbidden path",),
    ),
    Scenario(
        "cancelled",
        lambda words: [
            {**call("read", path=code_path(words)), "say": words("model: before it is cancelled")},
            _silent(finish()),
        ],
        _cancelled("cancelled", "model: before it is cancelled"),
        _CANCELLED,
        plants=("model: before it is cancelled",),
    ),
    Scenario(
        "the provider is overloaded, and recovers",
        lambda words: [
            {
                **call("create", path="FIVE.md", text="Five.\n"),
                **_busy(529, words("provider's error: overloaded"), 2),
            },
            finish(),
        ],
        _asks("the provider is overloaded, and recovers"),
        (("fix", "opened", "opened"),),
        plants=("provider's error: overloaded",),
    ),
    Scenario(
        "the provider fails until nobody wants to wait",
        lambda words: [{**finish(), **_busy(500, words("provider's error: fails"), 10_000)}],
        _cancelled(
            "the provider fails until nobody wants to wait",
            "comment: the provider fails until nobody wants to wait",
        ),
        _CANCELLED,
        plants=("provider's error: fails",),
    ),
    Scenario(
        "the provider refuses and quotes the code",
        # After this turn the playbook has none: the provider answers 400 and quotes the newest text, which is a file.
        lambda words: [{**call("read", path=code_path(words)), "say": words("model: before it is refused")}],
        _asks("the provider refuses and quotes the code"),
        (("fix", "refused", "model_request_refused"),),
        plants=("model: before it is refused",),
    ),
    Scenario(
        "a malformed answer",
        lambda words: [
            {
                "say": words("model: malformed"),
                "calls": [{"tool": "create", "raw": '{"path": "' + words("model: malformed")}],
            },
            *note("SIX.md", "Six.\n"),
        ],
        _asks("a malformed answer"),
        (("fix", "opened", "opened"),),
        plants=("model: malformed",),
    ),
    Scenario(
        "GitHub refuses",
        lambda _: note("SEVEN.md", "Seven.\n"),
        _play_github_refuses,
        (("fix", "refused", "invalid"),),
        plants=("GitHub's error: refuses", "GitHub's error: fails"),
    ),
    Scenario(
        "an unreadable repository file",
        lambda _: [finish()],
        _asks("an unreadable repository file", repository=BROKEN),
        (("fix", "refused", "repofile_invalid"),),
        plants=("repository file: unknown key",),
    ),
)


# --- all of it together ----------------------------------------------------------------------------------------------


def planted(scenarios: Sequence[Scenario]) -> Words:
    """Fresh words for all that these scenarios plant."""
    sources = [source for one in scenarios for source in ((one.request,) if one.ends else ()) + one.plants]
    return Words(plant(list(dict.fromkeys(sources))))


def playbook(scenarios: Sequence[Scenario], words: Words) -> Playbook:
    """What the model answers to each of them."""
    verdict = {"does_what_was_asked": True, "missing": [], "unasked": [], "risky": [], "tests_weakened": []}
    second = {
        "first_of": [
            {
                **call("verdict", **{**verdict, "risky": [words("model: second look")]}),
                "when": {"contains": "tpyo"},
            },
            call("verdict", **verdict),
        ]
    }
    looks = {
        "name": "a second look",
        "when": {"system_contains": "You take a second look"},
        "turns": [second],
    }
    told = [
        {
            "name": one.name,
            "when": {"contains": words.one(one.when or one.request)},
            "turns": list(one.turns(words)),
        }
        for one in scenarios
    ]
    return Playbook.model_validate({"scenarios": [looks, *told]})


def code_path(words: Words) -> str:
    return f"fairshare/{words.one('file path')}/{words.one('file path', 1)}.py"


def repositories(folder: Path, sample: Callable[[Path], None], words: Words) -> dict[str, Path]:
    """The sample repository with words in its code, paths, branch, history, instructions and checks; and two small ones."""
    main = folder / "main"
    sample(main)
    path = main / code_path(words)
    path.parent.mkdir(parents=True)
    code = [f'def {one}():\n    """Says {one}."""\n    return "{one}"\n' for one in words("code").split()]
    path.write_text("\n\n".join(code), encoding="utf-8")
    (main / "AGENTS.md").write_text(f"Say {words('agent instructions')}.\n", encoding="utf-8")
    # The words stand in the output alone: each is put together of two halves.
    halves = " ".join(f"{one[:7]} {one[7:]}" for one in words("check output").split())
    check = f"printf '%s%s\\n' {halves}; if [ -e SLOW.md ]; then sleep {_CHECK_SLEEPS}; fi; ! grep -q tpyo NOTES.md"
    _write(main / ".github" / "magicode.yml", json.dumps({"checks": [check]}))
    _repository(
        main, f"trunk/{words.one('branch name')}-{words.one('branch name', 1)}", words("commit message")
    )
    other = folder / "other"
    _write(other / "README.md", f"# Tidewater\n\n{words('code')}\n")
    _repository(other, "main", "Begin")
    broken = folder / "broken"
    keys = dict.fromkeys(words("repository file: unknown key").split(), True)
    _write(broken / ".github" / "magicode.yml", json.dumps(keys))
    _repository(broken, "main", "Begin")
    return {MAIN: main, OTHER: other, BROKEN: broken}


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _repository(folder: Path, branch: str, message: str) -> None:
    who = ["-c", "user.name=Wim", "-c", "user.email=wim@example.org", "-c", "commit.gpgsign=false"]
    for arguments in (["init", "-q", "-b", branch], ["add", "-A"], [*who, "commit", "-q", "-m", message]):
        subprocess.run(
            ["git", *arguments], cwd=folder, check=True, stdin=subprocess.DEVNULL, capture_output=True
        )


async def a_push(stage: Stage, words: Words) -> None:
    """Somebody pushes to the default branch: the webhook tells of the commit's message and paths."""
    repo = stage.github.world.repository(MAIN)
    assert repo is not None
    await stage.call(
        "PUT",
        f"/contents/docs/{words.one('file path')}.md",
        message=words("commit message"),
        content=base64.b64encode(words("code").encode()).decode(),
        branch=repo.default_branch,
    )
