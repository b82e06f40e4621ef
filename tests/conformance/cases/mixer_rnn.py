"""Elman networks: either activation, a state of another width than the model's, without biases."""

CASES = [
    {"kind": "rnn"},
    {"kind": "rnn", "width": 19, "activation": "relu"},
    {"kind": "rnn", "project": "linear", "bias": "none"},
]
