"""Clients and tools of others, in JavaScript: the official client, an emitter, wscat, and AsyncAPI's parser."""
