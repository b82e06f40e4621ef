"""A fixed context vector."""

CASES = [{"kind": "fixed"}]
