"""The flags about limits: each sets its limit, as a flag and as a variable, and none falls below the least."""

import re
from dataclasses import fields
from typing import Any

import click
import pytest
from click.testing import CliRunner

from tests.daemon.test_nats_options import GIVEN
from unibus.daemon.limit_options import limits
from unibus.daemon.main import command
from unibus.daemon.options import check, flags
from unibus.errors import StartRefused
from unibus.http.limits import Limits
from unibus.services.abandoned import GRACE

SET = {
    "record_body": ("--max-record-body", "256K", 256 << 10),
    "sealed_body": ("--max-sealed-body", "48M", 48 << 20),
    "held_bodies": ("--max-held-bodies", "1G", 1 << 30),
    "body_seconds": ("--body-seconds", "45.5", 45.5),
    "request_seconds": ("--request-seconds", "90", 90.0),
    "idle_seconds": ("--idle-seconds", "100", 100.0),
    "headers": ("--max-headers", "100", 100),
    "header": ("--max-header-size", "16K", 16 << 10),
    "target": ("--max-target-size", "8192", 8192),
    "rate_per_user": ("--rate-per-user", "0", 0),
    "appends_per_user": ("--appends-per-user", "1", 1),
    "rate_per_address": ("--rate-per-address", "7", 7),
    "connections": ("--max-connections", "9", 9),
}
RELIED_ON = ["record_body", "sealed_body", "held_bodies", "body_seconds", "request_seconds", "idle_seconds"]
RELIED_ON += ["headers", "header", "target"]


def told(arguments: list[str], variables: dict[str, str] | None = None) -> tuple[int, Limits | None, str]:
    """How the flags of a daemon end, the limits behind them, and what is said of them."""
    found: list[Limits] = []

    @click.command(context_settings={"auto_envvar_prefix": "UNIBUS"})
    @flags
    def command(**given: Any) -> None:
        found.append(check(**given).limits)

    ran = CliRunner().invoke(command, arguments, env=variables)
    return ran.exit_code, found[0] if found else None, ran.output


def test_without_flags_the_limits_are_the_protocols() -> None:
    assert told([])[1] == Limits() == limits({})
    assert check(**GIVEN).abandoned_seconds == GRACE


@pytest.mark.parametrize("field", SET)
def test_a_flag_sets_its_limit_and_no_other(field: str) -> None:
    flag, text, value = SET[field]
    for found in (told([flag, text]), told([], {"UNIBUS_" + flag[2:].replace("-", "_").upper(): text})):
        assert found[0] == 0, found[2]
        assert found[1] is not None
        changed = {name.name: getattr(found[1], name.name) for name in fields(Limits)}
        assert changed == {name.name: getattr(Limits(), name.name) for name in fields(Limits)} | {field: value}


@pytest.mark.parametrize("field", RELIED_ON)
def test_less_than_clients_rely_on_is_refused(field: str) -> None:
    status, _, said = told([SET[field][0], str(int(getattr(Limits(), field)) - 1)])
    assert status == 2
    assert SET[field][0] in said


@pytest.mark.parametrize("field", RELIED_ON)
def test_so_much_that_only_an_attacker_would_use_it_is_refused(field: str) -> None:
    assert told([SET[field][0], "2147483648"])[0] == 2


def test_bodies_of_a_user_have_room_for_the_largest() -> None:
    with pytest.raises(StartRefused, match="--max-held-bodies"):
        limits({"max_sealed_body": 128 << 20})


def test_help_shows_the_limits_apart() -> None:
    said = CliRunner().invoke(command, ["--help"]).output
    options, _, rest = said.partition("\nLimits:\n")
    shown = set(re.findall(r"^  (--[a-z-]+)", rest, re.MULTILINE))
    assert shown == {flag for flag, _, _ in SET.values()}
    assert "--data-dir" in options
    assert "--max-headers" not in options
