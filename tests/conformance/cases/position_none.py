"""No signal at all."""

ACTS, SHIFTS, READS = "nowhere", True, 10**6
CASES = [{"kind": "none"}]
