"""Synthetic data: a model writes rows, verifiers and what is there already decide which of them are kept."""
