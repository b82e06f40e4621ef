"""The k most probable, normalised or not, with and without a bias; the second item says what a token depends on."""

CASES = [
    ({"kind": "topk", "per_token": 2}, "itself"),
    ({"kind": "topk", "per_token": 1, "normalise": "none"}, "itself"),
    ({"kind": "topk", "per_token": 3, "bias": "logits", "balance": 0.01, "z": 0.001}, "itself"),
]
