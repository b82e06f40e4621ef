"""Deduplication: signatures that are a pure function of one text, and the groups that equal signatures make."""

from __future__ import annotations

from hanok.text.data.dedup.copies import Duplicates as Duplicates
from hanok.text.data.dedup.copies import copies as copies
from hanok.text.data.dedup.exact import Exact as Exact
from hanok.text.data.dedup.minhash import MinHash as MinHash
from hanok.text.data.dedup.recall import RecallReport as RecallReport
from hanok.text.data.dedup.recall import measure_recall as measure_recall
