"""Real parts for tests to stand on: daemon processes, people on a bus. Nothing here stands in for our own code."""
