"""Sines and cosines in both layouts."""

ACTS, SHIFTS, READS = "embedding", False, 10**6
CASES = [{"kind": "sinusoidal"}, {"kind": "sinusoidal", "layout": "half", "theta": 300.0}]
