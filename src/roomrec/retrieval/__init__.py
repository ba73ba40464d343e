"""Finding the best available items for a user vector."""
