"""BERT's encoder with the head that fills masks: activations, one head and many, few positions, no second type."""

MODEL = "BertForMaskedLM"
GENERATES = False
BASE = {
    "hidden_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 5,
    "intermediate_size": 56,
    "max_position_embeddings": 64,
}
CASES = [
    {},
    {"hidden_act": "gelu_new", "num_attention_heads": 1},
    {"hidden_act": "relu", "type_vocab_size": 1, "num_attention_heads": 8},
    {"hidden_act": "silu", "num_hidden_layers": 1, "intermediate_size": 7},
    {"layer_norm_eps": 1e-5, "max_position_embeddings": 61, "type_vocab_size": 3},
    {"hidden_size": 33, "num_attention_heads": 11, "vocab_size": 107},
]
GAMMA = [
    f"{norm}.{part}"
    for norm in (
        "bert.embeddings.LayerNorm",
        "bert.encoder.layer.{l}.attention.output.LayerNorm",
        "bert.encoder.layer.{l}.output.LayerNorm",
        "cls.predictions.transform.LayerNorm",
    )
    for part in ("gamma", "beta")
]
# Older names of norms; what BertModel alone has (tests/model/test_encoders.py); the bias where nothing is tied.
POOLER = ["bert.pooler.dense.weight", "bert.pooler.dense.bias"]
OLDER = (*GAMMA, *POOLER, "cls.predictions.decoder.bias")
