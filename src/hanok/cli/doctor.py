"""`hanok doctor`."""

from __future__ import annotations

from hanok.cli.common import Json, emit


def doctor(*, json: Json = False) -> None:
    """Say what this machine can do, what is missing, and whether exact numerics hold on it."""
    from hanok.recipes.doctor import examine

    emit(examine(), as_json=json)
