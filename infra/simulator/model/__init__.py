"""A simulated model provider: both providers' wire formats, played from a playbook. Not an AI, and never says it is."""
