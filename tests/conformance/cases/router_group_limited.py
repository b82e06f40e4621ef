"""Softmax scores in one group and in several."""

CASES = [
    ({"kind": "group_limited", "per_token": 3}, "itself"),
    ({"kind": "group_limited", "per_token": 2, "groups": 3, "groups_per_token": 2, "scale": 1.5}, "itself"),
]
