"""A GitHub to play with: real git on disk, GitHub's answers and refusals, signed webhooks, faults on request."""
