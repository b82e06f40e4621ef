"""BLOOM: head counts that are powers of two and others, tied and untied."""

BASE = {"hidden_size": 48, "n_layer": 3, "n_head": 4}
CASES = [
    {},
    {"n_head": 3, "tie_word_embeddings": False},
    {"hidden_size": 55, "n_head": 5, "layer_norm_epsilon": 1e-3},
    {"n_head": 12},
    {"n_head": 1, "n_layer": 1},
    {"hidden_size": 49, "n_head": 7, "slow_but_exact": True, "pretraining_tp": 1},
]
