"""MPT: head counts that are powers of two and others, slopes and scales of its own, tied and untied."""

BASE = {"d_model": 48, "n_layers": 3, "n_heads": 4, "max_seq_len": 128}
CASES = [
    {},
    {"n_heads": 3, "tie_word_embeddings": False},
    {"d_model": 55, "n_heads": 5, "layer_norm_epsilon": 1e-3},
    {"n_heads": 12, "tie_word_embeddings": False},
    {"n_heads": 1, "n_layers": 1, "attn_config": {"softmax_scale": 0.2}},
    {"d_model": 49, "n_heads": 7, "attn_config": {"attn_pdrop": 0, "attn_impl": "torch"}},
]
