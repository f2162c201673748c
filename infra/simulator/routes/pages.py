"""Two plain web pages, an issue and a pull request with its diff, so that every `html_url` can be opened.

They are shown to whoever asks: the simulator runs on one's own machine.
"""

from __future__ import annotations

from html import escape

from starlette.responses import HTMLResponse, Response

from infra.simulator.answers import not_found
from infra.simulator.call import Call, endpoint
from infra.simulator.state import Issue, Repo

_STYLE = (
    "body{font:16px/1.5 system-ui;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1f2328}"
    "pre{background:#f6f8fa;padding:1rem;overflow:auto;white-space:pre-wrap;border-radius:6px}"
    ".add{background:#dafbe1}.del{background:#ffebe9}.said{border-top:1px solid #d1d9e0;margin-top:1rem}small{color:#59636e}"
)


@endpoint("GET", "/{owner}/{repo}/issues/{issue_number}", limited=False)
async def issue_page(call: Call) -> Response:
    repo, issue = _found(call, "issue_number")
    return HTMLResponse(_page(repo, issue, _conversation(call, issue)))


@endpoint("GET", "/{owner}/{repo}/pull/{pull_number}", limited=False)
async def pull_page(call: Call) -> Response:
    repo, issue = _found(call, "pull_number")
    if issue.pull is None:
        raise not_found()
    start = await repo.git.merge_base(issue.pull.base_sha, issue.pull.head_sha)
    diff = await repo.git.diff(start or issue.pull.base_sha, issue.pull.head_sha)
    lines = "\n".join(_line(line) for line in diff.decode("utf-8", "replace").split("\n"))
    branches = f"{issue.pull.head_ref} into {issue.pull.base_ref}"
    return HTMLResponse(
        _page(
            repo,
            issue,
            f"<p>{escape(branches)}</p>{_conversation(call, issue)}<h2>Diff</h2><pre>{lines}</pre>",
        )
    )


def _found(call: Call, parameter: str) -> tuple[Repo, Issue]:
    repo = call.world.repository(f"{call.text('owner')}/{call.text('repo')}")
    issue = repo.issues.get(call.number(parameter)) if repo else None
    if repo is None or issue is None:
        raise not_found()
    return repo, issue


def _page(repo: Repo, issue: Issue, inner: str) -> str:
    draft = " · draft" if issue.pull and issue.pull.draft else ""
    state = "merged" if issue.pull and issue.pull.merged else issue.state
    title = f"{escape(issue.title)} · #{issue.number}"
    return (
        f'<!doctype html><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
        f"<p><small>simulated GitHub · {escape(repo.full_name)}</small></p><h1>{title}</h1><p><b>{state}</b>{draft}</p>{inner}"
    )


def _conversation(call: Call, issue: Issue) -> str:
    said = [(issue.user_id, issue.body or "")]
    said += [(comment.user_id, comment.body) for comment in issue.comments.values()]
    return "".join(
        f'<div class="said"><small>{escape(call.world.user(who).login)}</small><pre>{escape(text)}</pre></div>'
        for who, text in said
    )


def _line(line: str) -> str:
    kind = {"+": "add", "-": "del"}.get(line[:1], "")
    return f'<span class="{kind}">{escape(line)}</span>' if kind else escape(line)


endpoints = [issue_page, pull_page]
