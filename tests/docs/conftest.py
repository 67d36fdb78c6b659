"""A node, and what moves on it, for the documents' examples."""

from tests.socket_server.conftest import arrive, device, node, publish

__all__ = ["arrive", "device", "node", "publish"]
