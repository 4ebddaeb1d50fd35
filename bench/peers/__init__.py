"""Other servers that carry messages to many, as references: each is left out where nobody has installed it.

`bench/peers.txt` lists the Debian packages. Each runs in its normal configuration, which its promise states, on a free
port, with its data in a directory of the benchmark's, and ends with it.
"""
