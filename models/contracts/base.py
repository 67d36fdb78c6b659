"""What every wire message is one of. A text below a field is its description in OpenAPI and AsyncAPI."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Message(BaseModel):
    """Base of what clients send: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Answer(BaseModel):
    """Base of what the server sends."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)
