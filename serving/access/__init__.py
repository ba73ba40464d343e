"""Who may use which route, and how often."""
