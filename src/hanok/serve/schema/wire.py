"""What every piece of JSON from outside has in common."""

from __future__ import annotations

import pydantic


class Wire(pydantic.BaseModel):
    """A piece of JSON that a client sends; unknown keys are kept aside, never an error."""

    model_config = pydantic.ConfigDict(extra="allow", strict=True, allow_inf_nan=False, frozen=True)
