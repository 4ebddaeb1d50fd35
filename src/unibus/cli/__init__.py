"""The `unibus` command: parse, call, print. Never decides anything."""
