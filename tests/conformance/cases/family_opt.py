"""OPT: norms before and after, no norm at the end, none that learns, a narrow embedding, no biases."""

BASE = {
    "hidden_size": 48,
    "ffn_dim": 77,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "pad_token_id": 1,
}
CASES = [
    {},
    {"num_attention_heads": 3, "tie_word_embeddings": False},
    {"do_layer_norm_before": False, "word_embed_proj_dim": 20},
    {"do_layer_norm_before": False, "word_embed_proj_dim": 20, "tie_word_embeddings": False},
    {"word_embed_proj_dim": 61, "hidden_size": 35, "num_attention_heads": 5},
    {"enable_bias": False, "layer_norm_elementwise_affine": False},
    {"_remove_final_layer_norm": True, "activation_function": "gelu"},
    {"do_layer_norm_before": False, "enable_bias": False, "max_position_embeddings": 75},
]
