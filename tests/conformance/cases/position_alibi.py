"""ALiBi: usual slopes, and slopes that are steeper and scaled."""

ACTS, SHIFTS, READS = "scores", True, 10**6
CASES = [{"kind": "alibi"}, {"kind": "alibi", "steepest": 5.0, "scale": 0.35}]
