"""The commands of a runbook: what stands in its fenced blocks, section by section."""

import re

_FENCE = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"\s+# .*$", re.MULTILINE)


def commands(text: str) -> dict[str, list[str]]:
    """The commands of each section that has any, without their comments; a line that ends in | or \\ goes on."""
    found: dict[str, list[str]] = {}
    for section in text.split("\n## ")[1:]:
        title, _, body = section.partition("\n")
        blocks = (_COMMENT.sub("", block) for block in _FENCE.findall(body))
        if lines := [line for block in blocks for line in re.sub(r"(\||\\)\n\s*", r"\1 ", block).splitlines()]:
            found[title] = lines
    return found
