"""Scaling laws: fit loss against size and data, say how sure the fit is, and predict a run before it is trained."""
