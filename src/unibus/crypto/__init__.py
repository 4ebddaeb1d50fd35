"""Keys, seals, signatures and frames: bytes in, bytes out. Never any I/O, clock or knowledge of rooms' rules."""
