"""A classic model as a directory: which kind it holds is told by the name of its file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hanok.classic import CLASSICS
from hanok.core.errors import UsageError


def kind_of(path: str | Path) -> str | None:
    """Return the word under which the model of a directory is registered, or None if it holds none."""
    return next((kind for kind in CLASSICS if (Path(path) / f"{kind}.safetensors").is_file()), None)


def load_classic(path: str | Path, kind: str | None = None) -> Any:
    """Load the model of a directory, which has to be of a kind if one is given."""
    found = kind_of(path)
    if found is None or kind not in (None, found):
        wanted = " or ".join(f"{each}.safetensors" for each in ([kind] if kind else CLASSICS))
        raise UsageError(f"{path} {'holds no ' + wanted if Path(path).is_dir() else 'is no directory'}")
    model: Any = CLASSICS[found]
    return model.load(path)
