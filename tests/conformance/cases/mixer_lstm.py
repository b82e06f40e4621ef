"""LSTMs: as wide as the model, of another width, without biases."""

CASES = [
    {"kind": "lstm"},
    {"kind": "lstm", "width": 21},
    {"kind": "lstm", "width": 48, "bias": "none"},
]
