"""Runs every guard over the model's patch. What comes out may be published; what does not is refused for good."""

from __future__ import annotations

from collections.abc import Sequence

from app.change import guards
from app.change.diff import count
from app.change.policy import Policy
from app.nouns import Change, Patch, Rule
from app.ports import Workspace


def verify(patch: Patch, workspace: Workspace, policy: Policy) -> Change:
    """The checked change. Raises RefusedError, whose reason may be stored and whose message may not."""
    edits = patch.edits
    guards.something(edits)
    for edit in edits:
        guards.path_form(edit.path)
        guards.git_internals(edit.path)
        guards.code_owners(edit.path)
        guards.denied(edit.path, policy.repofile)
        guards.left_alone(edit.path, policy.left_alone)
        guards.links_and_submodules(edit.path, workspace)
        guards.hidden_characters(edit.path, workspace)
        guards.base(edit, workspace)
        guards.mode(edit, workspace)
        guards.binary(edit)
    guards.collisions(edits, workspace)
    guards.sizes(edits, policy)
    guards.wipe_out(edits, workspace)
    for edit in edits:
        guards.secrets(edit)
        guards.deceptive_characters(edit)
    guards.push_rules(edits, policy.rules)
    counts = [count(edit) for edit in edits]
    return Change(
        edits,
        patch.title,
        patch.summary,
        patch.checked_how,
        patch.looked_at,
        added_lines=sum(added for added, _ in counts),
        removed_lines=sum(removed for _, removed in counts),
        spending=patch.spending,
        replies=patch.replies,
    )


def verify_publication(
    *,
    branch: str,
    branch_rules: Sequence[Rule],
    branch_protected: bool,
    base: str,
    base_rules: Sequence[Rule],
    base_protected: bool,  # noqa: ARG001 (a protected base is how it should be: people merge)
    commit_message: str,
) -> None:
    """Refuses a head branch that is not ours, is protected or is the base, and what a rule forbids of name or message.

    The base's rules on messages hold too, since our commit reaches the base by merging. Raises RefusedError.
    """
    guards.branch(branch, base=base, protected=branch_protected)
    guards.branch_rules(branch, branch_rules)
    guards.commit_rules(commit_message, [*branch_rules, *base_rules])
