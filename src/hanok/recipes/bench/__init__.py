"""Measuring a model that answers: one batch, many requests at once, and a server under load."""
