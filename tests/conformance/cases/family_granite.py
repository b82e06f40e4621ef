"""Granite: every multiplier, biases, tied and untied, one head and several."""

BASE = {
    "hidden_size": 24,
    "intermediate_size": 44,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
CASES = [
    {"embedding_multiplier": 12.0, "attention_multiplier": 0.3, "residual_multiplier": 0.22, "logits_scaling": 8.0},
    {
        "tie_word_embeddings": True,
        "attention_bias": True,
        "mlp_bias": True,
        "logits_scaling": 13.0,
        "num_attention_heads": 3,
        "num_key_value_heads": 1,
        "rms_norm_eps": 1e-4,
    },
    {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e5}, "hidden_act": "gelu"},
    {"num_key_value_heads": None, "embedding_multiplier": 0.37, "attention_multiplier": 0.01, "logits_scaling": 0.3},
]
