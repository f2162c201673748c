"""What each person paid and owes."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from fairshare.split import split_evenly


@dataclass
class Ledger:
    """Balances in cents: above zero is owed to the person, below zero is owed by them."""

    balances: dict[str, int] = field(default_factory=dict)

    def spend(self, payer: str, total: int, people: Sequence[str]) -> None:
        """`payer` paid `total` cents for `people`."""
        for person, share in split_evenly(total, people).items():
            self.balances[person] = self.balances.get(person, 0) - share
        self.balances[payer] = self.balances.get(payer, 0) + total

    def outstanding(self) -> int:
        """The sum of all balances: nothing, when every cent is accounted for."""
        return sum(self.balances.values())
