"""The proof that no code is at rest: words are planted wherever words come from, and looked for wherever bytes may stay."""
