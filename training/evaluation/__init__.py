"""Full-ranking evaluation: candidates of the moment, scorers, ranks, tables."""
