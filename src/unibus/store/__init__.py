"""Bytes and positions on disk: the port and its engines. Never knows what a room is."""
