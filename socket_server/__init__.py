"""Realtime out and receipts in: frames to the users' sockets in order and without gaps, acks and actions back."""
