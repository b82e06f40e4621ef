"""Phi-3: groups, windows, parts of heads rotated, and LongRoPE within its first context and beyond it."""

BASE = {
    "hidden_size": 48,
    "intermediate_size": 77,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "max_position_embeddings": 128,
    "original_max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 3,
}
LONG = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "short_factor": [1.0, 1.1, 1.2, 1.3],
    "long_factor": [1.5, 2.0, 3.0, 4.5],
}
CASES = [
    {},
    {"num_key_value_heads": 2, "tie_word_embeddings": True, "rms_norm_eps": 1e-3},
    {"num_attention_heads": 3, "num_key_value_heads": 1, "sliding_window": 17},
    {"num_attention_heads": 3, "rope_parameters": {"rope_theta": 500.0, "partial_rotary_factor": 0.75}},
    {"rope_parameters": LONG | {"original_max_position_embeddings": 128}},
    {"rope_parameters": LONG, "original_max_position_embeddings": 8, "num_key_value_heads": 3},
    {
        "rope_parameters": LONG | {"attention_factor": 1.3, "partial_rotary_factor": 0.5},
        "num_attention_heads": 3,
        "original_max_position_embeddings": 8,
        "sliding_window": 9,
    },
]
