"""What a reason means to people, and what they can do next: sentences alone, which `wording` says."""

from __future__ import annotations

from typing import Final

CONTACT: Final = "ask whoever runs this service; the run's id is in this comment's source"

WHY: Final[dict[str, tuple[str, str]]] = {
    "archived": ("This repository is archived: nothing can be written to it.", "unarchive it and ask again."),
    "disabled": ("GitHub has disabled this repository.", "see its page on GitHub for the reason."),
    "repository_empty": (
        "This repository is empty: there is no code to work on.",
        "push a first commit and ask again.",
    ),
    "no_issues": (
        "Issues are switched off in this repository.",
        "switch them on in its settings and ask again.",
    ),
    "repository_missing": (
        "The repository is gone, or the App can no longer see it.",
        "check the App's installation: does it include this repository?",
    ),
    "installation_missing": ("The App is no longer installed here.", "install it again and ask again."),
    "installation_suspended": ("The App's installation is suspended.", "unsuspend it and ask again."),
    "permission_not_granted": (
        "GitHub says that the App was not granted a permission that this needs.",
        "an owner accepts the App's permissions in the installation's settings; then ask again.",
    ),
    "locked": ("This conversation is locked.", "unlock it and ask again."),
    "consent_withdrawn": (
        "This installation no longer allows code to be sent where I sent it, so I stopped at once; nothing was published.",
        "ask again: what is allowed now is asked. `settings` shows what that is.",
    ),
    "provider_key_changed": (
        "The key that this run was paid with was changed or removed, so I stopped at once; nothing was published.",
        "ask again: the present key is used.",
    ),
    "budget_installation": (
        "This installation's own limit for the day or the month is used up; nothing was sent to any model.",
        "an administrator raises `limit-day` or `limit-month` by `settings`, or you wait until it is over.",
    ),
    "budget": (
        "The cost limit was reached before the change was ready; nothing was published.",
        "ask again with a higher `up to $…`.",
    ),
    "human_commits": (
        "Somebody has committed to the branch since my last commit there. It is theirs now, and I leave it alone.",
        "go on by hand, or close that pull request and ask again for a new one.",
    ),
    "branch_moved": ("The branch moved while I was working; nothing was written over it.", "ask again."),
    "not_our_pull_request": (
        "This pull request was not opened by me, and I commit to no branch of others.",
        "ask on the issue instead.",
    ),
    "head_moved": (
        "The branch has a newer commit than the one whose CI failed, so that failure is left alone.",
        "nothing: CI on the newer commit decides.",
    ),
    "nothing_to_undo": (
        "There is no change of mine on this pull request that is not undone already.",
        "close the pull request if nothing of it is wanted.",
    ),
    "no_pull_request": (
        "There is no open pull request of mine here, so there is nothing to take back.",
        "ask where one is open.",
    ),
    "plan_ended": (
        "This account's plan on GitHub's Marketplace has ended, so I do no work here.",
        "somebody who manages the account's plans can take one; `export`, `delete`, `logs` and `settings` are answered still.",
    ),
    "pull_request_closed": ("This pull request is closed.", "reopen it, or ask again on the issue."),
    "branch_rules": (
        "The repository's rules do not let me write this branch or commit.",
        "an administrator can let the App pass that rule for `magicode/` branches.",
    ),
    "branch_protected": (
        "The branch is protected, and I write to no protected branch.",
        "take `magicode/` branches out of the protection.",
    ),
    "push_protection": (
        "GitHub's push protection found a secret in the change, and I do not bypass it.",
        "have a person look at the request.",
    ),
    "no_commits": (
        "GitHub sees no difference between the branch and its base: the change is there already.",
        "close the issue if it is solved.",
    ),
    "rate_limited": (
        "GitHub's rate limit for this installation was reached, and waiting for it took too long.",
        "ask again in an hour.",
    ),
    "paced": (
        "This installation's share of what GitHub lets an App write in an hour was used up for too long.",
        "ask again in an hour.",
    ),
    "conflict": (
        "GitHub was at work on the same thing for too long, and did not take mine.",
        "ask again with `retry`.",
    ),
    "github_answer_unreadable": (
        "GitHub's answers could not be read for too long.",
        "ask again later; https://www.githubstatus.com says more.",
    ),
    "not_there_yet": (
        "What I had written did not appear on GitHub for too long.",
        "ask again later; https://www.githubstatus.com says more.",
    ),
    "github_unavailable": (
        "GitHub did not answer as it should for too long.",
        "ask again later; https://www.githubstatus.com says more.",
    ),
    "network": ("GitHub could not be reached for too long.", "ask again later."),
    "workspace_full": (
        "There was no room for this repository's files beside those of others at work; I waited, and nothing was published.",
        f"ask again later with `retry`; if it stays so, {CONTACT}.",
    ),
    "machine_short": (
        "The machine that I run on had no room, no memory or no open files left for too long; nothing was published.",
        f"ask again later with `retry`; if it stays so, {CONTACT}.",
    ),
    "repository_too_large": ("The repository is larger than this service takes.", CONTACT + "."),
}

MODEL_DOWN: Final = (
    "The model's provider did not answer as it should; nothing was published.",
    "ask again with `retry` when it is back; if it stays so, " + CONTACT + ".",
)

OURS_TO_MEND: Final[dict[str, tuple[str, str]]] = {
    "model_unavailable": MODEL_DOWN,
    "model_key_refused": (
        "The model's provider refused this service's key, or the key may not use this model; nothing was published.",
        f"{CONTACT}; then ask again with `retry`.",
    ),
    "model_quota_exhausted": (
        "This service's account with the model's provider has no credit left; nothing was published.",
        f"{CONTACT}; then ask again with `retry`.",
    ),
    "model_unknown": (
        "The model's provider knows no model of the name that is configured; nothing was published.",
        f"mend `model` in `.github/magicode.yml` if it names one, else {CONTACT}.",
    ),
    "token_refused": (
        "GitHub did not accept this service's credentials.",
        f"{CONTACT}; then ask again with `retry`.",
    ),
    "setting_missing": (
        "This service is not configured fully: it has no model to ask.",
        f"{CONTACT}; then ask again with `retry`.",
    ),
}
"""What is no fault of the request: such a run failed, and a redelivery may start it again."""

NEXT: Final = (
    ("setting_", "write `settings` behind the mention to see all of them."),
    (
        "consent",
        "an administrator changes `providers` or `regions` by `settings`, or `model` in `.github/magicode.yml` changes.",
    ),
    ("edited_since", "read it once more and ask again."),
    ("no_write_permission", "somebody with write access makes the same request."),
    ("role_", "an administrator of this installation makes the same request, or changes the role."),
    ("member_own", "another administrator of this installation changes it."),
    ("member_", "write `settings` behind the mention to see how a role is given and taken."),
    ("closed", "reopen it and ask again."),
    (
        "same_failure",
        "look at its log, and say in a comment that mentions me what to do about it, or go on by hand.",
    ),
    (
        "mend_tries",
        "look at its log, and say in a comment that mentions me what to do about it, or go on by hand.",
    ),
    ("ci_", "start the failed jobs again on GitHub once the cause is gone; nothing here waits for it."),
    (
        "undo_over_merge",
        "take it back by hand, or say in a comment that mentions me what should be different.",
    ),
    ("no_plan", "ask for a plan with `plan`, or for the change with `fix`."),
    ("plan_done", "say in a comment that mentions me what should be different, or ask for a new `plan`."),
    ("assigned", "one of them asks, or you assign yourself or me too, and ask again."),
    ("already_fixed", "review that one; if it does not solve this, unlink or close it and ask again."),
    ("opted_out", "take the label off if it no longer holds, and ask again."),
    ("switched_off", "change that line on the base branch and ask again."),
    ("budget_", "ask for a smaller step, or with a higher `up to $…`."),
    ("model_", "put the request in other words and ask again."),
    ("stuck", "say more exactly what should be different, and ask again."),
    ("nothing_changed", "say more exactly what should be different, and ask again."),
    ("archive_", CONTACT + "."),
    ("workspace_", CONTACT + "."),
    ("repository_too", CONTACT + "."),
    ("repofile", "mend `.github/magicode.yml` on the base branch and ask again."),
    ("path_", "ask again without that part, or make it by hand."),
    ("secret", "look at what the change would have published, and make it by hand."),
    ("", "see the reason above; ask again once it no longer holds."),
)
"""By the beginning of a reason whose error brings its own sentence; the first that fits."""
