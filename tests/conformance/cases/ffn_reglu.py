"""ReGLU."""

CASES = [{"kind": "reglu", "hidden": 37}]
