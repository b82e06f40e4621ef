"""Mamba-2: tied and untied, groups, limits of the step, with every bias and none, odd sizes."""

BASE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "head_dim": 16,
    "num_heads": 4,
    "n_groups": 2,
    "state_size": 24,
    "chunk_size": 16,
}
CASES = [
    {},
    {"tie_word_embeddings": True, "n_groups": 1, "conv_kernel": 2},
    {"use_bias": True, "time_step_limit": (0.01, 0.5), "layer_norm_epsilon": 1e-3},
    {"use_conv_bias": False, "expand": 3, "head_dim": 8, "num_heads": 12, "n_groups": 3, "state_size": 5},
    {"hidden_size": 33, "head_dim": 11, "num_heads": 6, "time_step_min": 0.01, "time_step_max": 0.2},
]
OLDER = ["backbone.embedding.weight"]  # how the authors' own files name the embedding
