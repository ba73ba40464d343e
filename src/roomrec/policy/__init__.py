"""From candidates to a slate: re-ranking, fallback, explanation."""
