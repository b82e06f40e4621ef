"""The kernels, built once in the user's cache folder; without a compiler these tests are skipped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from hanok.ops import native
from hanok.ops.native import build


@pytest.fixture(scope="session")
def library() -> Any:
    if build.compiler() is None:
        pytest.skip("no C++ compiler is here")
    path = build.build()
    assert path is not None, build.failure()
    return native.load(path)


@pytest.fixture
def kernels(library: Any) -> Iterator[Any]:
    """Compute by the kernels in this test, in exact numerics too."""
    with native.used(library):
        yield library
