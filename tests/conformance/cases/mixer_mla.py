"""Latent attention: with and without a low-rank query, odd sizes, another scale."""

CASES = [
    {"kind": "mla", "heads": 3, "kv_rank": 11, "nope_dim": 6, "rope_dim": 4, "v_dim": 5},
    {"kind": "mla", "heads": 4, "kv_rank": 16, "q_rank": 13, "nope_dim": 8, "rope_dim": 2, "v_dim": 8, "bias": "all"},
    {"kind": "mla", "heads": 5, "kv_rank": 9, "nope_dim": 4, "rope_dim": 6, "v_dim": 7, "scale": 0.4},
]
