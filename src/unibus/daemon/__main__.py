"""`python -m unibus.daemon`: the same as `unibus-membershipd`."""

from unibus.daemon.main import main

main()
