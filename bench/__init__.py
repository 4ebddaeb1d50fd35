"""The benchmark: what unibus does beside what it is measured against, in one run. `make bench` runs it."""
