"""Where a model's files are: a local directory, or a repository of the Hugging Face hub brought into its cache."""

from __future__ import annotations

import re
from pathlib import Path

from hanok.core.errors import UsageError

SAFE = ("*.json", "*.safetensors", "*.jinja")  # data only: no pickles, no code
COPIES = ("*/*.safetensors", "consolidated*.safetensors")  # the same weights again in other layouts
NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def find(source: str | Path, *, revision: str | None = None) -> Path:
    """Return where a model is: `source` itself if it is a directory or a GGUF file, else the hub's `org/name`.

    The hub's own environment variables hold (HF_HOME, HF_TOKEN, HF_ENDPOINT, HF_HUB_OFFLINE).
    """
    path = Path(source).expanduser()
    if path.is_dir():
        if revision is not None:
            raise UsageError(f"revision {revision!r} is for hub repositories, and {path} is a local directory")
        return path
    if path.suffix == ".gguf" and path.is_file():
        return path
    if path.exists():
        raise UsageError(f"{path} is a file; a model is a directory with config.json and model.safetensors, or *.gguf")
    if isinstance(source, Path) or not NAME.fullmatch(str(source)):
        raise UsageError(f"there is no directory {str(source)!r}, and it is not a hub name of the form 'org/name'")
    return _download(str(source), revision)


def _download(name: str, revision: str | None) -> Path:
    """Bring the files that we read into the hub's cache; what is there already is not fetched again."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    missing = f"there is no directory {name!r}"
    try:
        found = snapshot_download(name, revision=revision, allow_patterns=list(SAFE), ignore_patterns=list(COPIES))
    except LocalEntryNotFoundError as error:
        raise UsageError(
            f"{missing}, the hub's cache does not hold it, and the hub cannot be reached "
            f"(offline, or HF_HUB_OFFLINE is set): {_first_line(error)}"
        ) from None
    except (GatedRepoError, RepositoryNotFoundError) as error:
        raise UsageError(
            f"{missing}, and the hub shows no such repository; a private or gated one needs a token that may read it "
            f"(HF_TOKEN, or `hf auth login`): {_first_line(error)}"
        ) from None
    except RevisionNotFoundError as error:
        raise UsageError(f"the repository {name!r} has no revision {revision!r}: {_first_line(error)}") from None
    except HfHubHTTPError as error:
        raise UsageError(f"{missing}, and the hub refuses {name!r}: {_first_line(error)}") from None
    except Exception as error:  # the client lets its HTTP library's own errors through, and has changed that twice
        raise UsageError(f"{missing}, and it cannot be downloaded: {_first_line(error)}") from None
    return Path(found)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
