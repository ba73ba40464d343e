"""Finding candidates among what is live: who may be shown, and who scores highest."""
