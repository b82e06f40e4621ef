"""GPT: tied and untied, its activations, odd sizes."""

BASE = {"n_embd": 48, "n_layer": 3, "n_head": 4, "n_positions": 128}
CASES = [
    {},
    {"n_head": 3, "tie_word_embeddings": False},
    {"n_embd": 35, "n_head": 5, "layer_norm_epsilon": 1e-3},
    {"afn": "relu", "n_layer": 1},
    {"afn": "silu", "n_head": 1},
    {"n_positions": 75, "vocab_size": 101},
]
