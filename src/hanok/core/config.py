"""Strict, frozen configurations: an unknown key is an error that names the nearest right one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import pydantic
import yaml

from hanok.core.errors import UsageError, suggest
from hanok.core.json_file import clip

if TYPE_CHECKING:
    from hanok.core.registry import Registry


class Config(pydantic.BaseModel):
    """A frozen configuration; two equal ones have the same digest."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())

    @classmethod
    def parse(cls, data: Mapping[str, Any], *, where: str = "") -> Self:
        """Validate a mapping; a `UsageError` says which key is wrong and what would be right."""
        try:
            return cls.model_validate(dict(data))
        except pydantic.ValidationError as error:
            raise UsageError(_explain(cls, error, where)) from None

    @classmethod
    def from_yaml(cls, path: str | Path | None, *overrides: str) -> Self:
        """Read a YAML file (or nothing) and apply `key.sub=value` overrides, whose values are YAML too."""
        data: dict[str, Any] = read_yaml(path) if path is not None else {}
        for override in overrides:
            set_override(data, override)
        return cls.parse(data, where=str(path or ""))

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON-able form; `parse(to_dict())` is equal to `self`."""
        return self.model_dump(mode="json")

    def to_yaml(self) -> str:
        """Return the YAML form, which can be run again with `--config`."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)

    def digest(self) -> str:
        """Return the sha256 of the canonical JSON form."""
        return digest(self.to_dict())


class PartConfig(Config):
    """The configuration of a registered part; `kind` is the word it is registered under."""

    kind: str

    def resolve(self, dim: int) -> Self:
        """Return the config with defaults that depend on the model's width filled in."""
        return self


def digest(data: Any) -> str:
    """Return the sha256 of JSON-able data, independent of the order of keys."""
    text = json.dumps(data, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML mapping from a file."""
    try:
        data = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the configuration {path}: {error}") from None
    except yaml.YAMLError as error:
        raise UsageError(f"{path} is not valid YAML: {error}") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise UsageError(f"{path} must hold a mapping of keys to values, not a {type(data).__name__}")
    return data


def set_override(data: dict[str, Any], override: str) -> None:
    """Apply one `key.sub=value` to nested mappings, in place."""
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"override {override!r} must look like key.sub=value")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"the value of override {override!r} is not valid YAML: {error}") from None
    *path, last = key.strip().removeprefix("--").split(".")
    for step in path:
        inner = data.setdefault(step, {})
        if isinstance(inner, str):  # a part given by its bare word
            inner = data[step] = {"kind": inner}
        if not isinstance(inner, dict):
            raise UsageError(f"override {override!r}: {step!r} is not a mapping")
        data = inner
    data[last] = value


def spec_type(registry: Registry[Any]) -> Any:
    """Return a field type that reads `{"kind": "gqa", ...}`, `"gqa"` or a part's config, checked by its own class."""

    def read(value: Any) -> PartConfig:
        if isinstance(value, PartConfig):
            if value.kind not in registry:
                raise ValueError(f"{value.kind!r} is not a {registry.kind}")
            return value
        if isinstance(value, str):
            value = {"kind": value}
        if not isinstance(value, Mapping) or not isinstance(value.get("kind"), str):
            raise ValueError(f"a {registry.kind} is written as its word or as a mapping with a 'kind'")
        part_config: type[PartConfig] = registry[value["kind"]].Config
        return part_config.model_validate(dict(value))

    return Annotated[pydantic.SerializeAsAny[PartConfig], pydantic.BeforeValidator(read)]


def optional_spec(registry: Registry[Any]) -> Any:
    """Return the field type of `spec_type` for a part that may be left out (`None`)."""
    part = pydantic.TypeAdapter(spec_type(registry))

    def read(value: Any) -> PartConfig | None:
        return None if value is None else part.validate_python(value)

    return Annotated[pydantic.SerializeAsAny[PartConfig] | None, pydantic.BeforeValidator(read)]


def _explain(cls: type[Config], error: pydantic.ValidationError, where: str) -> str:
    lines = []
    for item in error.errors():
        path = ".".join(str(step) for step in item["loc"])
        if item["type"] == "extra_forbidden":
            known = _keys_beside(cls, item["loc"])
            hint = suggest(item["loc"][-1], known) or (f" (known: {', '.join(sorted(known))})" if known else "")
            lines.append(f"unknown key {path!r}{hint}")
        elif item["type"] == "missing":
            lines.append(f"missing key {path!r}")
        else:
            lines.append(
                f"{path or cls.__name__}: {item['msg'].removeprefix('Value error, ')} (got {clip(item['input'])})"
            )
    return (f"{where}: " if where else "") + "; ".join(lines)


def _keys_beside(cls: type[pydantic.BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Return the names that would have been accepted where an unknown key stood."""
    for step in location[:-1]:
        field = cls.model_fields.get(str(step))
        inner = field.annotation if field else None
        if isinstance(inner, type) and issubclass(inner, pydantic.BaseModel):
            cls = inner
        else:
            return []
    return list(cls.model_fields)
