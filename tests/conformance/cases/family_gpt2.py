"""GPT-2: tied and untied, an inner width of its own, other activations, and scores scaled in all four ways."""

BASE = {"n_embd": 48, "n_layer": 3, "n_head": 4, "n_positions": 128}
CASES = [
    {},
    {"n_head": 3, "n_inner": 101, "tie_word_embeddings": False},
    {"n_embd": 35, "n_head": 5, "layer_norm_epsilon": 1e-3, "activation_function": "gelu"},
    {"scale_attn_weights": False, "activation_function": "relu"},
    {"scale_attn_by_inverse_layer_idx": True, "reorder_and_upcast_attn": True},
    {"scale_attn_by_inverse_layer_idx": True, "scale_attn_weights": False, "n_layer": 1},
    {"activation_function": "silu", "n_head": 1, "n_positions": 80},
]
