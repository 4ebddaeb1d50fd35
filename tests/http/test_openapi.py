"""The description is valid OpenAPI and tells of all that is served, and the real daemon keeps to it."""

import asyncio
import json
import re
from base64 import b64encode
from collections.abc import AsyncIterator
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from tests.builders import identity
from tests.http.fuzzing import Signing, explore
from tests.support.daemon import Daemon, spawn
from tests.support.people import Place
from tests.support.processes import no_nats_server

from unibus.errors import BY_CODE
from unibus.model.problem import Problem, to_problem

HTTP_METHODS = {"get", "head", "post", "put", "patch", "delete"}


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[Daemon]:
    """A daemon process on free ports."""
    running = Daemon(await spawn(tmp_path / "data"), tmp_path / "data")
    await running.ready()
    yield running
    await running.stop()
    await no_nats_server(tmp_path / "data")


async def fetch(daemon: Daemon, path: str) -> tuple[bytes, dict[str, str]]:
    """The whole answer to an unsigned GET, and its headers."""
    async with aiohttp.ClientSession() as session, session.get(daemon.url + path) as answer:
        assert answer.status == 200
        return await answer.read(), {name.lower(): value for name, value in answer.headers.items()}


async def document_of(daemon: Daemon) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((await fetch(daemon, "/openapi.json"))[0])
    return document


async def test_the_document_is_valid_and_tells_of_every_operation(daemon: Daemon) -> None:
    document = await document_of(daemon)
    OpenAPIV31SpecValidator(document).validate()
    operations = [
        operation for methods in document["paths"].values() for method, operation in methods.items() if method != "head"
    ]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names)
    assert all(operation["summary"].endswith(".") for operation in operations)
    assert {"/healthz", "/livez", "/readyz", "/metrics", "/openapi.json", "/docs"} <= set(document["paths"])
    open_to_all = {
        path
        for path, methods in document["paths"].items()
        if not (methods.get("get") or next(iter(methods.values())))["security"]
    }
    assert open_to_all == {"/healthz", "/livez", "/readyz", "/metrics", "/openapi.json", "/docs", "/v1/bus"}


async def test_every_operation_names_its_refusals(daemon: Daemon) -> None:
    document = await document_of(daemon)
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            refusals = {
                int(status): made["content"]["application/problem+json"]["schema"]["allOf"][1]["properties"]["type"][
                    "enum"
                ]
                for status, made in operation["responses"].items()
                if "application/problem+json" in made.get("content", {})
            }
            for status, kinds in refusals.items():
                codes = [kind.rpartition(":")[2] for kind in kinds if kind != "about:blank"]
                assert [BY_CODE[code].status for code in codes] == [status] * len(codes), (method, path)
            if method != "head":
                assert {400, 414, 429, 431, 500, 503, 504} <= set(refusals), (method, path)


@pytest.mark.parametrize("code", BY_CODE)
def test_every_problem_fits_its_model(code: str) -> None:
    made = to_problem(BY_CODE[code]("what is wrong", sequence=7, retry_after=0.5))
    assert Problem.model_validate(made).model_dump(exclude_none=True) == made


async def test_the_daemon_keeps_to_its_description(daemon: Daemon) -> None:
    place = Place(daemon.url, daemon.data_dir)
    await place.found("bob")
    async with place.enter("ada") as ada:
        await ada.create_room("plans")
    bus = json.loads((await fetch(daemon, "/v1/bus"))[0])["bus"]
    document = await document_of(daemon)
    signing = Signing(identity("ada").signing, bus)
    found = await asyncio.to_thread(explore, daemon.url, document, signing, 4)
    assert sorted(found.wrong) == []
    operations = {
        f"{method.upper()} {path}"
        for path, methods in document["paths"].items()
        for method in methods.keys() & HTTP_METHODS
    }
    assert set(found.statuses) == operations
    # The requests were well signed: each operation was reached, and not only the refusal before it.
    assert {name for name, statuses in found.statuses.items() if set(statuses) <= {401, 405}} == set()
    assert [entry for entry in daemon.log if entry.get("level") in {"error", "critical"}] == []


class Page(HTMLParser):
    """What a page holds: its tags, where its links lead, what can be led to, and its style."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.places: list[str] = []
        self.style = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            assert not name.startswith("on")
            assert name not in {"style", "src"}
            if name == "href":
                self.links.append(value or "")
            if name == "id":
                self.places.append(value or "")

    def handle_data(self, data: str) -> None:
        if self.tags[-1:] == ["style"]:
            self.style = self.style or data


async def test_the_page_needs_nothing_from_outside(daemon: Daemon) -> None:
    text, headers = await fetch(daemon, "/docs")
    page = Page()
    page.feed(text.decode())
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert not {"script", "link", "img", "iframe", "object", "form", "base"} & set(page.tags)
    assert "url(" not in page.style
    assert "@import" not in page.style
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    digest = re.findall(r"'sha256-([^']+)'", policy)
    assert digest == [b64encode(sha256(page.style.encode()).digest()).decode()]
    assert len(set(page.places)) == len(page.places)
    inside = {link.removeprefix("#") for link in page.links if link.startswith("#")}
    assert inside <= set(page.places)
    assert {link for link in page.links if not link.startswith("#")} == {"/openapi.json"}
    document = await document_of(daemon)
    named = {operation["operationId"] for methods in document["paths"].values() for operation in methods.values()}
    assert {name for name in named if not name.endswith("_head")} <= set(page.places)
