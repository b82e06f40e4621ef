"""GPT-J: a part of each head rotated or all of it, an inner width of its own, tied with a bias."""

BASE = {"n_embd": 48, "n_layer": 3, "n_head": 4, "n_positions": 128, "rotary_dim": 4}
CASES = [
    {},
    {"n_head": 3, "n_inner": 101, "rotary_dim": 16},
    {"n_embd": 50, "n_head": 5, "layer_norm_epsilon": 1e-3, "rotary_dim": 6},
    {"tie_word_embeddings": True, "activation_function": "gelu"},
    {"n_head": 1, "rotary_dim": 2, "activation_function": "relu"},
    {"n_layer": 1, "rotary_dim": 12},
]
