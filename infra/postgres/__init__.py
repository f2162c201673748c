"""The durable state: tables, the store, the queue, and bringing a database's schema up to date."""
