"""Zamba2: one shared block and several, adapters, rope, groups, biases, more blocks than uses, and none."""

HYBRID = ["mamba", "hybrid", "hybrid", "mamba", "hybrid"]
BASE = {
    "hidden_size": 32,
    "num_hidden_layers": 5,
    "layers_block_type": HYBRID,
    "num_attention_heads": 4,
    "n_mamba_heads": 4,
    "mamba_d_state": 8,
    "adapter_rank": 3,
    "intermediate_size": 44,
    "max_position_embeddings": 128,
}
CALL = {"use_cache": False}  # the reference cannot make a cache for layers without attention
CASES = [
    {},
    {"num_mem_blocks": 2, "use_shared_attention_adapter": True, "use_mem_rope": True},
    {
        "hidden_size": 36,
        "num_attention_heads": 3,
        "num_key_value_heads": 3,
        "n_mamba_heads": 6,
        "mamba_ngroups": 3,
        "mamba_expand": 3,
        "mamba_d_conv": 3,
        "add_bias_linear": True,
        "use_shared_attention_adapter": True,
        "intermediate_size": None,
    },
    {
        "num_mem_blocks": 3,
        "layers_block_type": ["hybrid", "hybrid", "linear_attention", "hybrid", "hybrid", "hybrid", "hybrid"],
        "num_hidden_layers": 7,
        "use_mem_rope": True,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1234.0},
        "num_key_value_heads": 2,
        "hidden_act": "gelu_pytorch_tanh",
        "time_step_min": 0.3,
        "rms_norm_eps": 1e-4,
    },
    {"num_mem_blocks": 4, "layers_block_type": ["hybrid", "mamba"], "num_hidden_layers": 2, "use_long_context": True},
    {"num_mem_blocks": 3, "use_shared_attention_adapter": True, "use_mem_rope": True, "tie_word_embeddings": False},
    {"layers_block_type": ["mamba", "mamba"], "num_hidden_layers": 2, "hidden_act": "silu"},
    {"layers_block_type": ["hybrid"] * 4, "num_hidden_layers": 4, "use_conv_bias": False, "num_mem_blocks": 2},
]
