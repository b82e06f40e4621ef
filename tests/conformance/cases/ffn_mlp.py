"""Two layers with every activation."""

ACTIVATIONS = ("relu", "relu2", "silu", "gelu", "gelu_tanh", "gelu_quick")
CASES = [{"kind": "mlp", "activation": word, "hidden": 27} for word in ACTIVATIONS] + [{"kind": "mlp", "bias": "all"}]
