"""What is asked of a host, and what it answers: a script that only reads, and its output's parser.

The output comes from another machine: a line that is not understood is an error, never a guess.
"""

import re
from dataclasses import dataclass, field

from unibus.errors import InvalidInput

SERVICE = "membershipd-cluster.service"
UNIT_PATH = f"/etc/systemd/system/{SERVICE}"
STATE_PATH = "/var/lib/unibus"

FACTS = f"""\
set -eu
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
cd / && path=$1 && shift
echo "machine $(uname -m)"
command -v python3 >/dev/null &&
	python3 -c 'import sys; print("python", ".".join(map(str, sys.version_info[:2])))'
python3 -c 'import ensurepip, venv' 2>/dev/null && echo "venv yes"
echo "release $(basename "$(readlink "$path/current" || echo -)")"
[ -d {STATE_PATH} ] && [ -n "$(ls -A {STATE_PATH})" ] && echo "data yes"
[ -f "$path/installed" ] && echo "installed $(stat -c %Y "$path/installed")"
if [ -d /run/systemd/system ] && systemctl is-active --quiet {SERVICE}; then
	echo "started $(date -d "$(systemctl show -P ActiveEnterTimestamp {SERVICE})" +%s)"
fi
for name in "$@" {UNIT_PATH}; do
	case $name in /*) file=$name ;; *) file=$path/$name ;; esac
	[ -f "$file" ] && [ ! -L "$file" ] && echo "sum $(sha256sum <"$file" | cut -d ' ' -f 1) $name"
done
exit 0
"""
"""Prints the facts; its arguments are the node's path and the names of its pieces below it. Changes nothing."""

_KINDS = "machine|python|venv|release|data|installed|started|sum"
_LINE = re.compile(rf"({_KINDS}) ([A-Za-z0-9_.-]+)(?: ([A-Za-z0-9_./-]+))?")


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What a host said. `release` is the id of the bundle that is installed, "" for none.

    `installed` is when anything was installed last and `started` when the running service was, in the host's Unix
    seconds, 0 for never; `sums` are SHA-256 digests in hexadecimal, by name.
    """

    machine: str = ""
    python: str = ""
    venv: bool = False
    release: str = ""
    data: bool = False
    installed: int = 0
    started: int = 0
    sums: dict[str, str] = field(default_factory=dict)


def parse_facts(text: str) -> HostFacts:
    """The facts in the script's output. Raises InvalidInput."""
    words: dict[str, str] = {}
    sums: dict[str, str] = {}
    for line in text.splitlines():
        found = _LINE.fullmatch(line)
        if found is None or (found[1] == "sum") is not bool(found[3]):
            raise InvalidInput(f"the host's answer is not understood: {line[:80]!r}")
        kind, value, name = found.groups()
        if kind == "sum":
            sums[name] = value
        else:
            words[kind] = value
    try:
        return HostFacts(
            words.get("machine", ""),
            words.get("python", ""),
            "venv" in words,
            words.get("release", "-").removeprefix("-"),
            "data" in words,
            int(words.get("installed", "0")),
            int(words.get("started", "0")),
            sums,
        )
    except ValueError as error:
        raise InvalidInput("the host's answer is not understood: a number is none") from error
