"""Whether this machine can run the JavaScript client."""

import re
import shutil
import subprocess

NEEDED = (20, 19)
"""The Node.js version that the client's libraries ask for."""


def node_is_here() -> bool:
    """Whether there are npm, and a Node.js that is new enough."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        return False
    told = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    return tuple(int(number) for number in re.findall(r"\d+", told)) >= NEEDED
