"""Windows of several lengths: the default, an odd one with a narrow hidden layer, and the shortest."""

CASES = [
    {"kind": "window_mlp"},
    {"kind": "window_mlp", "tokens": 3, "hidden": 19},
    {"kind": "window_mlp", "tokens": 2, "hidden": 40},
]
