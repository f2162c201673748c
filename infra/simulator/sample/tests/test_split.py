import unittest

from fairshare.split import split_by_weight, split_evenly


class SplitEvenly(unittest.TestCase):
    def test_an_even_amount_is_shared_alike(self):
        self.assertEqual(split_evenly(900, ["ana", "ben", "cem"]), {"ana": 300, "ben": 300, "cem": 300})

    def test_no_cent_is_lost(self):
        self.assertEqual(sum(split_evenly(1000, ["ana", "ben", "cem"]).values()), 1000)

    def test_the_first_pay_the_cents_left_over(self):
        self.assertEqual(split_evenly(1001, ["ana", "ben", "cem"]), {"ana": 334, "ben": 334, "cem": 333})

    def test_nobody_is_an_error(self):
        with self.assertRaises(ValueError):
            split_evenly(100, [])


class SplitByWeight(unittest.TestCase):
    def test_the_total_is_kept(self):
        self.assertEqual(split_by_weight(1000, {"ana": 1, "ben": 2}), {"ana": 333, "ben": 667})


if __name__ == "__main__":
    unittest.main()
