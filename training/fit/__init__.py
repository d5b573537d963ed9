"""Training runs: one, or one for each fold of a cross-validation."""
