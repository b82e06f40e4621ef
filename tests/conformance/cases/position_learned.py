"""Learned vectors: as long as the sequences here, and with rows that are never used."""

ACTS, SHIFTS, READS = "embedding", False, 200
CASES = [{"kind": "learned", "length": 200}, {"kind": "learned", "length": 200, "offset": 2}]
