"""RWKV-4: tied and untied, sizes of their own, other epsilons, and halvings of the stream at inference."""

BASE = {"hidden_size": 48, "num_hidden_layers": 3, "context_length": 128}
CASES = [
    {},
    {"tie_word_embeddings": True, "num_hidden_layers": 2},
    {"attention_hidden_size": 31, "intermediate_size": 77, "layer_norm_epsilon": 1e-3, "rescale_every": 0},
    {"num_hidden_layers": 4, "rescale_every": 4},
    {"num_hidden_layers": 7, "rescale_every": 2, "layer_norm_epsilon": 1e-3},
    {"num_hidden_layers": 6, "rescale_every": 0},
]
CALL = {"use_cache": False}  # their cache has room for as many channels as the model is wide, and no other number
