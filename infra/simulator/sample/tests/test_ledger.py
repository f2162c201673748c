import unittest

from fairshare.ledger import Ledger
from fairshare.settle import settle


class Balances(unittest.TestCase):
    def test_every_cent_is_accounted_for(self):
        ledger = Ledger()
        ledger.spend("ana", 1000, ["ana", "ben", "cem"])
        self.assertEqual(ledger.outstanding(), 0)

    def test_payments_settle_the_balances(self):
        self.assertEqual(settle({"ana": 500, "ben": -200, "cem": -300}), [("cem", "ana", 300), ("ben", "ana", 200)])


if __name__ == "__main__":
    unittest.main()
