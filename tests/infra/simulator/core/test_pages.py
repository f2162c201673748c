"""The pages that `html_url` leads to."""

from __future__ import annotations

from infra.simulator.serve import Running

SAMPLE = "/repos/octo/sample"


async def test_a_pull_requests_page_shows_its_words_and_its_diff_and_runs_no_script(sim: Running) -> None:
    wim = sim.client("wim")
    sha = (await wim.get(f"{SAMPLE}/branches/main")).json()["commit"]["sha"]
    await wim.post(f"{SAMPLE}/git/refs", json={"ref": "refs/heads/work", "sha": sha})
    body = {"message": "m", "content": "PGI+", "branch": "work"}
    assert (await wim.put(f"{SAMPLE}/contents/new.txt", json=body)).status_code == 201
    sent = {"title": "<script>", "head": "work", "base": "main", "body": "words"}
    pull = (await wim.post(f"{SAMPLE}/pulls", json=sent)).json()
    page = await sim.client(None).get(pull["html_url"])
    assert page.status_code == 200
    assert "&lt;script&gt;" in page.text
    assert "<script>" not in page.text
    assert "+&lt;b&gt;" in page.text
    assert (await sim.client(None).get(pull["html_url"] + "0")).status_code == 404


async def test_an_issues_page_is_not_counted_against_a_limit(sim: Running) -> None:
    issue = (await sim.client().post(f"{SAMPLE}/issues", json={"title": "It breaks", "body": "See"})).json()
    sim.world.limits.anonymous_per_hour = 0
    assert "It breaks" in (await sim.client(None).get(issue["html_url"])).text
