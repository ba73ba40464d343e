"""From ranked candidates to a slate: what to show when nothing is known, and why each item is shown."""
