"""GeGLU with both forms of GELU."""

CASES = [{"kind": "geglu", "hidden": 24}, {"kind": "geglu", "hidden": 9, "activation": "gelu", "bias": "all"}]
