"""What a hot statement is. Its text is the product's own, with psycopg's named parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Hot:
    """A statement with parameters as the product gives them. One that `writes` is rolled back."""

    name: str
    purpose: str
    sql: str
    parameters: Mapping[str, object]
    writes: bool = False
