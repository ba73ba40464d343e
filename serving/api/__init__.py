"""The HTTP contract: messages, routes and metrics."""
