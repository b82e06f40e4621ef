"""One expert per token, without a limit, with a factor, and with an absolute capacity."""

CASES = [
    ({"kind": "switch"}, "itself"),
    ({"kind": "switch", "factor": 1.0}, "past"),
    ({"kind": "switch", "capacity": 2}, "past"),
]
