"""Sigmoid scores in one group and in several."""

CASES = [
    ({"kind": "sigmoid_group", "per_token": 2}, "itself"),
    ({"kind": "sigmoid_group", "per_token": 3, "groups": 3, "groups_per_token": 2, "balance": 0.0001}, "itself"),
]
