"""How the bundled embedding model is made: a development program, never run by the service."""
