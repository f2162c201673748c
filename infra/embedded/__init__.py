"""What runs inside the service's own machine so that a newcomer needs to install nothing: PostgreSQL in a wheel."""
