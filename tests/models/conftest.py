"""An identity provider on loopback."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.models.identity_provider import Provider, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    async with serving() as running:
        yield running
