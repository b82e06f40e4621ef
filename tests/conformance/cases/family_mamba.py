"""Mamba: tied and untied, with every bias and none, odd sizes."""

BASE = {"hidden_size": 40, "num_hidden_layers": 3}
CASES = [
    {},
    {"tie_word_embeddings": False, "state_size": 7, "conv_kernel": 3},
    {"use_bias": True, "time_step_rank": 5, "expand": 3},
    {"use_conv_bias": False, "layer_norm_epsilon": 1e-3, "hidden_size": 33},
    {"time_step_min": 0.01, "time_step_max": 0.5, "num_hidden_layers": 1},
]
OLDER = ["backbone.embedding.weight"]  # how the authors' own files name the embedding
