"""The clamped gated unit, with bounds that are reached."""

CASES = [{"kind": "swiglu_clamped", "hidden": 21, "bias": "all"}, {"kind": "swiglu_clamped", "limit": 0.5}]
