"""Jobs: one Hydra entry point each."""
