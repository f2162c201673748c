"""The payments that bring every balance to nothing."""

from collections.abc import Mapping


def settle(balances: Mapping[str, int]) -> list[tuple[str, str, int]]:
    """Return (from, to, cents) payments, the largest debts first."""
    debts = sorted(((-cents, who) for who, cents in balances.items() if cents < 0), reverse=True)
    credits = sorted(((cents, who) for who, cents in balances.items() if cents > 0), reverse=True)
    payments: list[tuple[str, str, int]] = []
    while debts and credits:
        owed, debtor = debts.pop(0)
        due, creditor = credits.pop(0)
        paid = min(owed, due)
        payments.append((debtor, creditor, paid))
        if owed > paid:
            debts.insert(0, (owed - paid, debtor))
        if due > paid:
            credits.insert(0, (due - paid, creditor))
    return payments
