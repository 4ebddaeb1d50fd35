"""The benchmark: what unibus does beside what it is measured against, in one run. `python -m bench`, or `make bench`."""
