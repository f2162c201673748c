"""What is held for a customer: the keys that close it, and what it takes to hand it over or destroy it."""
