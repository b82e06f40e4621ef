"""RMSNorm: plain, Gemma's, and without a gain."""

CASES = [
    {"kind": "rmsnorm"},
    {"kind": "rmsnorm", "eps": 1e-3, "offset": 1.0},
    {"kind": "rmsnorm", "weight": "none"},
]
