"""SwiGLU, of its default width and of an odd one."""

CASES = [{"kind": "swiglu"}, {"kind": "swiglu", "hidden": 37, "bias": "all"}]
