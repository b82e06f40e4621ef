"""Experts that choose: an average of two, and of fewer than one."""

CASES = [
    ({"kind": "expert_choice", "factor": 2.0}, "row"),
    ({"kind": "expert_choice", "factor": 0.75}, "row"),
]
