"""Griffin's recurrent block: the model's width, and another with a short convolution."""

CASES = [{"kind": "rglru"}, {"kind": "rglru", "width": 24, "conv": 2}]
