"""RoPE: whole and partial heads, both layouts, and every scaling."""

ACTS, SHIFTS, READS = "mixer", True, 10**6
CASES = [
    {"kind": "rope"},
    {"kind": "rope", "theta": 500.0, "fraction": 0.5, "layout": "interleaved"},
    {"kind": "rope", "dims": 6},
    {"kind": "rope", "fraction": 0.4},
    {"kind": "rope", "scaling": {"kind": "linear", "factor": 3.5}},
    {"kind": "rope", "scaling": {"kind": "dynamic", "factor": 2.0, "original_context": 16, "length": 100}},
    {"kind": "rope", "scaling": {"kind": "yarn", "factor": 8.0, "original_context": 16, "truncate": "none"}},
    {
        "kind": "rope",
        "scaling": {
            "kind": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_context": 32,
        },
    },
    {
        "kind": "rope",
        "fraction": 0.5,
        "scaling": {
            "kind": "longrope",
            "short_factor": [1.0, 1.1],
            "long_factor": [2.0, 9.0],
            "original_context": 16,
            "context": 128,
        },
    },
]
