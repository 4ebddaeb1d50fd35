"""`unibus audit`: what was done and refused, as an admin reads it, and as it comes."""

import re

from tests.cli.commands import Person, interrupt
from tests.cli.conftest import Newcomer


def test_what_was_done_and_refused_stands_in_lines(ada: Person, newcomer: Newcomer) -> None:
    gus = newcomer("gus")
    since = str(ada.values("audit")[-1]["number"])
    assert gus.refused("audit") == "only an admin may do this"
    ada.does("user", "revoke", "gus")
    refused, done = ada.does("audit", "--since", since).splitlines()
    stamp = r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8}"
    assert re.fullmatch(
        rf" *[0-9]+  {stamp}  refused  gus           GET /v1/audit  code forbidden, .* from 127\.0\.0\.1", refused
    )
    assert re.fullmatch(rf" *[0-9]+  {stamp}  ok       ada           user\.revoke gus  .* from 127\.0\.0\.1", done)
    (entry, _) = ada.values("audit", "--since", since)
    assert (entry["outcome"], entry["facts"]["code"]) == ("refused", "forbidden")


def test_what_comes_is_shown_until_it_is_ended(ada: Person) -> None:
    since = str(ada.values("audit")[-1]["number"])
    following = ada.start("audit", "--follow", "--since", since)
    assert following.stdout is not None
    for name in ("followed", "followed again"):
        ada.does("room", "create", name)
        assert "room.create" in following.stdout.readline().decode()
    interrupt(following)
    ended = ada.end(following)
    assert (ended.status, ended.err) == (130, "\n")
