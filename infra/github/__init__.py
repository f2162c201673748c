"""GitHub's REST and GraphQL API behind the app's ports: tokens, typed answers, bounded retries, our own errors."""
