"""The service's API for Python programs: typed calls, written by `client.generate` from the service's own description of itself."""
