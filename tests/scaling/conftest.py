"""Published tables, where the reference data lies beside the repository."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

Rows = list[dict[str, str]]


@pytest.fixture
def table() -> Callable[[str], Rows]:
    """Return a reader of `shared/data/scaling/<name>`; the test is skipped where the folder is absent."""

    def read(name: str) -> Rows:
        for parent in Path(__file__).resolve().parents:
            file = parent / "shared" / "data" / "scaling" / name
            if file.is_file():
                return list(csv.DictReader(file.read_text(encoding="utf-8").splitlines()))
        pytest.skip(f"the published table {name} is not beside this checkout (shared/data/scaling)")

    return read
