"""T5's biases: the usual buckets, few of them, and both directions."""

ACTS, SHIFTS, READS = "scores", True, 10**6
CASES = [{"kind": "t5"}, {"kind": "t5", "buckets": 6, "reach": 11}, {"kind": "t5", "buckets": 8, "see": "all"}]
