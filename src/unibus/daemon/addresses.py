"""What an address alone tells. Pure: nothing is looked up."""

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether what is sent to `host` never leaves this machine (RFC 6761, section 6.3, for the name)."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
