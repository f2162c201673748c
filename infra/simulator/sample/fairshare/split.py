"""Splitting an amount among people, in whole cents."""

from collections.abc import Mapping, Sequence


def split_evenly(total: int, people: Sequence[str]) -> dict[str, int]:
    """Give each person the same share of `total` cents.

    When the total cannot be divided evenly, the first people pay one cent more.
    """
    if not people:
        raise ValueError("nobody to split among")
    share = total // len(people)
    return {person: share for person in people}


def split_by_weight(total: int, weights: Mapping[str, int]) -> dict[str, int]:
    """Share `total` cents in proportion to `weights`, by the largest remainder."""
    whole = sum(weights.values())
    if whole <= 0:
        raise ValueError("weights must add up to more than nothing")
    shares = {person: total * weight // whole for person, weight in weights.items()}
    by_remainder = sorted(weights, key=lambda person: total * weights[person] % whole, reverse=True)
    for person in by_remainder[: total - sum(shares.values())]:
        shares[person] += 1
    return shares
