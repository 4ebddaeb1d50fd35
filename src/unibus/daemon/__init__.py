"""The process: options, wiring, life and death of `unibus-membershipd`."""
