"""The durable event log, and the state that is a view of it."""
