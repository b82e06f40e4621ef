"""Ready-made model configurations, by name; each is a function whose keywords are its dials."""

from collections.abc import Callable

from hanok.core.registry import Registry
from hanok.model.config import ModelConfig

PRESETS: Registry[Callable[..., ModelConfig]] = Registry("preset", __name__)
