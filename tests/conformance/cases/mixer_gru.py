"""GRUs: as wide as the model, of another width, without biases."""

CASES = [
    {"kind": "gru"},
    {"kind": "gru", "width": 21},
    {"kind": "gru", "width": 48, "bias": "none"},
]
