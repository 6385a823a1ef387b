"""What every section of the configuration is made of."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class ConfigError(ValueError):
    """A configuration that breaks a rule; the message names key, value and rule."""


class Frozen(BaseModel):
    """A section: fields do not change, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")
