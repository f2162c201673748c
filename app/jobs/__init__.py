"""From a delivery to a durable run, and a run's way through its states; knows no network and no model."""
