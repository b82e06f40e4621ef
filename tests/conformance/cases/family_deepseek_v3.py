"""DeepSeek-V3: with and without a low-rank query, groups, shared experts, rotary layouts, YaRN with a scale."""

BASE = {
    "hidden_size": 48,
    "intermediate_size": 77,
    "moe_intermediate_size": 20,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "num_key_value_heads": 3,
    "n_routed_experts": 8,
    "n_shared_experts": 1,
    "num_experts_per_tok": 3,
    "kv_lora_rank": 16,
    "q_lora_rank": 12,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 6,
    "v_head_dim": 10,
    "n_group": 4,
    "topk_group": 2,
    "first_k_dense_replace": 1,
    "max_position_embeddings": 128,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 1e4,
    "factor": 4.0,
    "original_max_position_embeddings": 32,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
}
CASES = [
    {},
    {"q_lora_rank": None, "tie_word_embeddings": True, "n_shared_experts": 3},
    {"attention_bias": True, "rope_interleave": False, "norm_topk_prob": False, "n_group": 1, "topk_group": 1},
    {"first_k_dense_replace": 0, "routed_scaling_factor": 1.0, "num_attention_heads": 5, "num_key_value_heads": 5},
    {"first_k_dense_replace": 3, "rms_norm_eps": 1e-5},
    {"rope_parameters": YARN},
]
# The class of the reference library leaves these tensors of published files out: tests/model/test_mtp.py reads them.
AHEAD = "model.layers.{m}."
OLDER = [AHEAD + f"{name}.weight" for name in ("enorm", "hnorm", "eh_proj", "shared_head.norm")]
OLDER += [AHEAD + f"{name}_layernorm.weight" for name in ("input", "post_attention")]
OLDER += [AHEAD + f"self_attn.{name}.weight" for name in ("q_a_proj", "q_a_layernorm", "q_b_proj", "q_proj", "o_proj")]
OLDER += [AHEAD + f"self_attn.{name}.weight" for name in ("kv_a_proj_with_mqa", "kv_a_layernorm", "kv_b_proj")]
OLDER += [AHEAD + f"self_attn.{name}.bias" for name in ("q_a_proj", "kv_a_proj_with_mqa", "o_proj")]
OLDER += [AHEAD + f"mlp.{name}.weight" for name in ("gate_proj", "up_proj", "down_proj", "gate")]
OLDER += [AHEAD + f"mlp.experts.{{e}}.{name}_proj.weight" for name in ("gate", "up", "down")]
OLDER += [AHEAD + f"mlp.shared_experts.{name}_proj.weight" for name in ("gate", "up", "down")]
OLDER += [AHEAD + "mlp.gate.e_score_correction_bias"]
