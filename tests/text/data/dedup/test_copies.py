from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hanok.core.errors import UsageError
from hanok.text.data.dedup import Duplicates, Exact, copies
from hanok.text.data.dedup.exact import ExactConfig


def plain(rows: list[tuple[int, ...]], words: int) -> list[int]:
    """Groups by repeated relabelling: the definition, slowly."""
    first = list(range(len(rows)))
    changed = True
    while changed:
        changed = False
        for i, a in enumerate(rows):
            for j, b in enumerate(rows):
                share = any(a[k : k + words] == b[k : k + words] for k in range(0, len(a), words))
                if share and first[i] != first[j]:
                    first[i] = first[j] = min(first[i], first[j])
                    changed = True
    return first


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(*[st.integers(0, 6)] * 4), min_size=1, max_size=10), st.sampled_from([1, 2, 4]))
def test_groups_are_those_of_the_definition(rows: list[tuple[int, ...]], words: int) -> None:
    keys = np.array(rows, dtype=np.uint64)
    assert copies(keys, words=words).tolist() == plain(rows, words)


def test_chains_join_and_the_first_stays() -> None:
    keys = np.array([[1, 9], [2, 8], [3, 8], [1, 7], [3, 7]], dtype=np.uint64)
    assert copies(keys).tolist() == [0, 0, 0, 0, 0]
    assert copies(keys[[0, 1, 2]]).tolist() == [0, 1, 1]


def test_signatures_can_be_a_mapped_file(tmp_path: Path) -> None:
    keys = np.random.default_rng(0).integers(0, 400, (500, 3)).astype(np.uint64)
    keys.tofile(tmp_path / "keys.bin")
    mapped = np.memmap(tmp_path / "keys.bin", dtype="<u8", mode="r").reshape(-1, 3)
    assert (copies(mapped) == copies(keys)).all()
    assert len(copies(keys[:0])) == 0
    with pytest.raises(UsageError, match="do not divide"):
        copies(keys, words=2)


def test_exact_copies_differ_in_white_space_at_most() -> None:
    texts = {"a": "one  two\n", "b": "one two", "c": "One two", "d": "one two three", "e": "\tone two", "f": "one twо"}
    exact = Exact()
    found = Duplicates(exact)
    found.extend((name, exact.signature(text)) for name, text in texts.items())
    assert found.find() == {"b": "a", "e": "a"}
    strict = Exact(ExactConfig(ignore="nothing"))
    found = Duplicates(strict)
    found.extend((name, strict.signature(text)) for name, text in [*texts.items(), ("g", "one two")])
    assert found.find() == {"g": "b"}
    assert Duplicates(exact).find() == {}


def test_half_a_digest_in_common_is_no_copy() -> None:
    found = Duplicates(Exact())
    for name, row in (("a", [1, 2]), ("b", [1, 3]), ("c", [4, 2]), ("d", [1, 3])):
        found.add(name, np.array(row, dtype=np.uint64))
    assert found.find() == {"d": "b"}
    with pytest.raises(UsageError, match="document 'x'"):
        found.add("x", np.zeros(3, dtype=np.uint64))
