"""What the tests of whole requests share: short playbooks, and what GitHub and the model were told."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx

from app.nouns import Run
from infra.models.playbook import Playbook
from infra.simulator.state import Repo
from tests.line.stage import Stage

TITLE = "The note is wrong"
BODY = "NOTES.md says nothing. Please write one."
ASK = "@magicode fix this"
QUICK = timedelta(milliseconds=100)


def finish(title: str = "Write the note", summary: str = "The note was missing.") -> dict[str, Any]:
    words = {"title": title, "summary": summary, "checked_how": "Read it again."}
    return {"calls": [{"tool": "finish", "arguments": words}]}


def create(path: str, text: str) -> dict[str, Any]:
    return {"calls": [{"tool": "create", "arguments": {"path": path, "text": text}}]}


def scenario(*turns: dict[str, Any], when: str | None = None) -> dict[str, Any]:
    said: dict[str, Any] = {"name": when or "the only one", "turns": list(turns)}
    return said | ({"when": {"contains": when}} if when else {})


def verdict(**found: list[str]) -> dict[str, Any]:
    """A second look's: without arguments it finds nothing wrong."""
    words = {"missing": [], "unasked": [], "risky": [], "tests_weakened": []} | found
    words |= {"does_what_was_asked": not words["missing"]}  # type: ignore[dict-item]
    return {"calls": [{"tool": "verdict", "arguments": words}]}


def approving() -> dict[str, Any]:
    """The scenario of a second look that finds nothing wrong."""
    said = {"name": "a second look", "when": {"system_contains": "You take a second look"}}
    return said | {"turns": [verdict()]}


def plans() -> dict[str, Any]:
    """The scenario of a plan."""
    arguments = {
        "summary": "Write the note that is missing.",
        "files": [{"path": "NOTES.md", "change": "A new file that holds the note."}],
        "steps": ["Create NOTES.md."],
        "risks": ["None: nothing reads it."],
    }
    said = {"name": "a plan", "when": {"system_contains": "Your task is a plan"}}
    return said | {"turns": [{"calls": [{"tool": "plan", "arguments": arguments}]}]}


def playbook(*scenarios: dict[str, Any]) -> Playbook:
    """The first scenario that fits; a second look finds nothing wrong unless one of them says otherwise."""
    second = approving()
    looks_again = any(one.get("when") == second["when"] for one in scenarios)
    return Playbook.model_validate({"scenarios": [*([] if looks_again else [second]), *scenarios]})


def notes(path: str = "NOTES.md") -> Playbook:
    """Creates a note; where the request says `once more`, writes another beside it."""
    return playbook(
        scenario(
            create("MORE.md", "More of it.\n"),
            finish("Write another note", "One note was not enough."),
            when="once more",
        ),
        scenario(create(path, "A note.\n"), finish()),
    )


def writes(path: str, text: str = "x\n") -> Playbook:
    return playbook(scenario(create(path, text), finish()))


async def ask(
    stage: Stage, comment: str = ASK, *, user: str = "wim", body: str = BODY, by: str = "wim"
) -> int:
    """An issue by `by`, and the comment on it by `user`; the issue's number."""
    number = await stage.open_issue(TITLE, body, user=by)
    await stage.comment(number, comment, user=user)
    return number


def repo_of(stage: Stage) -> Repo:
    found = stage.github.world.repository(stage.repository)
    assert found is not None
    return found


async def ours(stage: Stage, number: int) -> list[str]:
    """What the App wrote on an issue or a pull request, oldest first."""
    return [
        str(one["body"]) for one in await stage.comments(number) if one["user"]["login"] == "magicode[bot]"
    ]


async def branches(stage: Stage) -> list[str]:
    """Those of ours."""
    refs = await repo_of(stage).git.refs("refs/heads/magicode/")
    return sorted(name.removeprefix("refs/heads/") for name, _, _ in refs)


async def asked_of_the_model(stage: Stage) -> list[dict[str, Any]]:
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        return list((await client.get(f"{stage.model_url}/_simulator/requests")).json())


async def prompts(stage: Stage) -> str:
    """All that was sent to the model, with nothing escaped."""
    return "\n".join(
        json.dumps(one["body"], ensure_ascii=False).replace("\\n", "\n").replace('\\"', '"')
        for one in await asked_of_the_model(stage)
    )


async def writes_of(stage: Stage) -> list[tuple[str, str]]:
    """The App's own requests that change something in a repository: method and route."""
    return [
        (one.method, one.route or one.path)
        for one in stage.github.world.requests
        if one.caller == "installation"
        and one.method != "GET"
        and one.status is not None
        and one.status < 300
        and "installation/token" not in one.path
    ]


async def ends(stage: Stage, run: Run) -> list[dict[str, Any]]:
    """The details of the run's `run.ended` entries."""
    return [
        dict(entry.details or {})
        for entry in await stage.log()
        if entry.action == "run.ended" and entry.run_id == str(run.id)
    ]


HEADINGS = {
    "explained": "Explained",
    "human_commits": "Yours now",
    "planned": "A plan",
    "question": "A question first",
    "undone": "Undone",
}
"""Of ends that say more than their state does."""


async def ended_well_told(stage: Stage, run: Run, number: int | None = None) -> str:
    """The run's one status comment, once it is sure that the run ended once and said which, what it cost and what next."""
    (end,) = await ends(stage, run)
    assert (end["state"], end["reason"]) == (run.state.value, run.reason)
    said = [one for one in await ours(stage, number or run.number) if str(run.id) in one.split("\n", 1)[0]]
    assert len(said) == 1, said
    heading = (
        HEADINGS.get(run.reason or "")
        or {
            "opened": "Pull request opened",
            "updated": "Pull request updated",
            "answered": "Answered",
            "refused": "Not done",
            "failed": "Failed",
            "cancelled": "Cancelled",
        }[run.state.value]
    )
    assert f"**{heading}**" in said[0], said[0]
    assert "Cost: " in said[0] or "No model was called: $0.00" in said[0]
    assert "Action log head:" in said[0]
    if run.state.value != "answered":
        assert "**Next:**" in said[0]
    return said[0]


async def one_pull_request(stage: Stage, *, head: str) -> dict[str, Any]:
    """The only pull request there is."""
    (pull,) = await stage.pulls()
    assert pull["head"]["ref"] == head
    return pull


def reasons(runs: Iterable[Run]) -> list[tuple[str, str, str | None]]:
    return [(run.verb, run.state.value, run.reason) for run in runs]


def say(text: str, **rest: Any) -> dict[str, Any]:
    return {"say": text, **rest}


def edit(path: str, old: str, new: str) -> dict[str, Any]:
    return {"calls": [{"tool": "edit", "arguments": {"path": path, "old": old, "new": new}}]}


def looks(*turns: dict[str, Any]) -> dict[str, Any]:
    """The scenario of a second look that says this. A later look at a mended change begins at the first turn again."""
    return approving() | {"turns": list(turns)}


async def conversations(stage: Stage) -> tuple[list[str], list[str]]:
    """What the author of the change was sent, and what the second look was, each request with nothing escaped."""
    author: list[str] = []
    second: list[str] = []
    for one in await asked_of_the_model(stage):
        text = json.dumps(one["body"], ensure_ascii=False).replace("\\n", "\n").replace('\\"', '"')
        (second if "You take a second look" in text else author).append(text)
    return author, second


async def body_of(stage: Stage) -> str:
    """The body of the only pull request there is."""
    (pull,) = await stage.pulls()
    return str(pull["body"])


async def logged(stage: Stage, action: str) -> list[dict[str, Any]]:
    """The details of each entry of this action, oldest first."""
    return [dict(entry.details or {}) for entry in await stage.log() if entry.action == action]


def repository_file(sample: Path, **settings: Any) -> None:
    """Writes `.github/magicode.yml` before the repository is served."""
    path = sample / ".github" / "magicode.yml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(settings))  # JSON is YAML
