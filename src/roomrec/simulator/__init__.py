"""A live-commerce world with known truth."""
