"""GraphiQL: what the page and its assets answer, and what a real browser makes of them."""

import json
import re
import shutil
import socket
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import uvicorn
from playwright.async_api import Page, async_playwright, expect
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from resolvers.viewer import Role
from service.app import create_app
from service.graphiql import BUILT, EXAMPLES, graphiql_page, graphiql_routes
from service.keys import SharedSecret
from service.settings import Settings
from service.tokens import TokenVerifier, issue_token
from tests.migration.support import migrate
from tests.support import insert_item, missing, psql

SECRET = "the-secret-of-the-tests-0123456789abcdef"
SOURCE = Path(__file__).parents[2] / "web" / "index.html"
TOKEN = {"Authorization": "Bearer token-of-the-demo"}


# Over HTTP: a page as web/ has it, with assets that are enough to be served.


@pytest.fixture
def built(tmp_path: Path) -> Path:
    assets = tmp_path / "web" / "dist" / "graphiql-assets"
    assets.mkdir(parents=True)
    shutil.copy(SOURCE, assets.parent / "index.html")
    for name in ("main-0a1b.js", "main-0a1b.css", "icons-0a1b.ttf"):
        (assets / name).write_text("content")
    (tmp_path / "secret.txt").write_text("secret")
    return assets.parent


def client(built: Path, **settings: Any) -> httpx.AsyncClient:
    async def page(request: Request) -> Response:
        return graphiql_page(request, built=built, **settings)

    app = Starlette(routes=[Route("/graphql", page), *graphiql_routes(built=built)])
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop.example:8123")


class Scripts(HTMLParser):
    """The script elements of a page: their attributes and their text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[dict[str, str | None], str]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "script":
            self.found.append((dict(attrs), ""))

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "script":
            attributes, text = self.found[-1]
            self.found[-1] = (attributes, text + data)


def settings_of(page: str) -> Any:
    (text,) = [text for attributes, text in Scripts(page).found if attributes.get("id") == "settings"]
    return json.loads(text)


async def test_the_page_allows_only_what_the_service_itself_serves(built: Path) -> None:
    answer = await client(built).get("/graphql")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; ")) == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self' 'unsafe-inline'",
        "connect-src": "'self'",
        "worker-src": "'self'",
        "font-src": "'self' data:",
        "img-src": "'self' data:",
        "frame-ancestors": "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"
    assert answer.headers["cache-control"] == "no-store"


async def test_the_page_knows_its_endpoint_and_every_example(built: Path) -> None:
    settings = settings_of((await client(built, endpoint="/api/graphql").get("/graphql")).text)
    assert settings["endpoint"] == "/api/graphql"
    assert settings["headers"] is None
    assert [example["query"] for example in settings["examples"]] == [
        file.read_text() for file in sorted(EXAMPLES.glob("*.graphql"))
    ]
    assert settings["examples"][0]["name"] == "Items"
    assert all(example["about"] for example in settings["examples"])


async def test_a_default_header_cannot_end_the_script_it_is_embedded_in(built: Path) -> None:
    hostile = {"X-Note": "</script><script>alert(1)</script><!-- \u2028 & \" '"}
    page = (await client(built, default_headers=hostile).get("/graphql")).text
    assert settings_of(page)["headers"] == hostile
    assert len(Scripts(page).found) == len(Scripts(SOURCE.read_text()).found)


@pytest.mark.parametrize(
    ("name", "types"),
    [
        ("main-0a1b.js", {"text/javascript", "application/javascript"}),
        ("main-0a1b.css", {"text/css"}),
        ("icons-0a1b.ttf", {"font/ttf"}),
    ],
)
async def test_an_asset_has_its_type_and_is_kept_by_the_browser(built: Path, name: str, types: set[str]) -> None:
    answer = await client(built).get(f"/graphiql-assets/{name}")
    assert answer.text == "content"
    assert answer.headers["content-type"].split(";")[0] in types
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["x-content-type-options"] == "nosniff"
    # A worker is bound by the policy of its own script, not by that of the page.
    assert "default-src 'none'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    "path",
    [
        "..%2findex.html",
        "%2e%2e/index.html",
        "..%2f..%2f..%2fsecret.txt",
        "x/..%2f..%2f..%2f..%2fsecret.txt",
        "{root}/secret.txt",
        "%2f{root}/secret.txt",
        "..%5cindex.html",
        "main-0a1b.js%00",
        "",
        "absent.js",
    ],
)
async def test_nothing_but_an_asset_is_served_as_one(built: Path, tmp_path: Path, path: str) -> None:
    answer = await client(built).get("/graphiql-assets/" + path.format(root=tmp_path))
    assert answer.status_code == 404
    assert "secret" not in answer.text


async def test_a_page_that_was_not_built_says_how_to_build_it_and_how_to_ask_without(tmp_path: Path) -> None:
    async with client(tmp_path / "absent", default_headers=TOKEN) as asking:
        answer = await asking.get("/graphql")
        assert answer.status_code == 200
        assert "<pre>make web</pre>" in answer.text
        assert "curl http://shop.example:8123/graphql" in answer.text
        assert "Authorization: Bearer token-of-the-demo" in answer.text
        assert not re.search(r"<script|src=|https?://(?!shop\.example:8123)", answer.text)
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        assert answer.headers["cache-control"] == "no-store"
        assert (await asking.get("/graphiql-assets/main-0a1b.js")).status_code == 404


async def test_a_page_that_was_not_built_shows_a_default_header_as_text(tmp_path: Path) -> None:
    answer = await client(tmp_path, default_headers={"X-Note": "</pre><script>alert(1)</script>"}).get("/graphql")
    assert Scripts(answer.text).found == []
    assert "X-Note" in answer.text


async def test_a_page_that_is_built_while_the_service_runs_is_served(built: Path) -> None:
    elsewhere = built.rename(built.with_name("not-yet"))  # noqa: ASYNC240 - nothing else runs meanwhile
    async with client(built) as asking:
        assert (await asking.get("/graphiql-assets/main-0a1b.js")).status_code == 404
        elsewhere.rename(built)
        assert settings_of((await asking.get("/graphql")).text)
        assert (await asking.get("/graphiql-assets/main-0a1b.js")).status_code == 200


# In a browser: the real bundle, the real service, a real shop.

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
# A script that is refused `eval` may well go on in silence.
TELL_BREACHES = """
addEventListener("securitypolicyviolation", breach => console.error(breach.violatedDirective, breach.blockedURI))
"""
QUERY = ".graphiql-query-editor .view-lines"
HEADERS = ".graphiql-editor-tool .monaco-editor:visible"


@dataclass
class Visit:
    """A browser on GraphiQL: what it asked for, and what it complained about."""

    page: Page
    urls: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    sockets: int = 0

    async def watch(self) -> None:
        await self.page.add_init_script(TELL_BREACHES)
        self.page.context.on("request", lambda request: self.urls.append(request.url))
        self.page.on("websocket", lambda _: self.count_socket())
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda message: self.hear(message.type, message.text))

    def hear(self, kind: str, text: str) -> None:
        if kind in ("error", "warning", "assert"):
            self.complaints.append(text)

    def count_socket(self) -> None:
        self.sockets += 1

    async def arrive(self, url: str) -> None:
        await self.page.goto(url)
        await self.sees(QUERY, "query Items {")
        await self.sees(HEADERS, "Authorization")

    async def sees(self, where: str, text: str) -> None:
        await expect(self.page.locator(where)).to_contain_text(text, timeout=TIMEOUT)

    async def sees_the_schema(self) -> None:
        """The documentation names a type that no page of ours mentions."""
        await self.page.get_by_role("button", name="Show Documentation Explorer").click()
        await self.sees(".graphiql-plugin", "StockBatchConnection")

    async def open_example(self, name: str, first_line: str) -> None:
        await self.page.locator(".examples").get_by_role("button", name=re.compile(rf"^{name}\b")).click()
        await self.sees(QUERY, first_line)
        await self.sees(".graphiql-tab-active", name)

    async def paste_headers(self, headers: Mapping[str, str]) -> None:
        await self.page.locator(HEADERS).click()
        await self.page.evaluate("text => navigator.clipboard.writeText(text)", json.dumps(headers))
        await self.page.keyboard.press("Control+A")
        await self.page.keyboard.press("Control+V")
        await self.sees(HEADERS, headers["Authorization"])

    async def run(self) -> tuple[str | None, Any]:
        """Press the button: the token that was sent, and the answer."""
        async with self.page.expect_response(lambda response: response.request.method == "POST") as awaited:
            await self.page.get_by_role("button", name="Execute query").click()
        response = await awaited.value
        return await response.request.header_value("authorization"), await response.json()


TIMEOUT = 20_000  # milliseconds; on a busy machine the editor takes its time


@cache
def bearer(role: Role) -> dict[str, str]:
    token = issue_token(SECRET, role=role, company=None, ttl=timedelta(hours=1), subject=role.name.lower())
    return {"Authorization": f"Bearer {token}"}


@contextmanager
def served(database_url: str, default_headers: Mapping[str, str] | None = None) -> Iterator[str]:
    """The URL of the service's GraphiQL. Who connects before it serves has to wait."""
    app = create_app(Settings(), database_url, TokenVerifier(SharedSecret(SECRET)), default_headers=default_headers)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/graphql"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture
async def visit() -> AsyncIterator[Visit]:
    """A browser. At the end it had nothing to complain of, and had asked nobody but the service."""
    chromium = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if chromium is None:
        missing("Chromium")
    if not (BUILT / "index.html").exists():
        missing("web/dist (make web)")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=QUIET)
        page = await browser.new_page(viewport={"width": 1440, "height": 900})
        await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        visit = Visit(page)
        page.set_default_timeout(TIMEOUT)
        await visit.watch()
        yield visit
        await browser.close()
    assert visit.complaints == []
    assert {urlsplit(url).hostname for url in visit.urls if not url.startswith("data:")} == {"127.0.0.1"}


@pytest.fixture
async def demo_url(shop_url: str) -> str:
    """The shop has an item and is migrated."""
    async with psql(shop_url) as connection:
        await insert_item(connection, "demo-item-1", name="Desk fan")
    await migrate(shop_url)
    return shop_url


@pytest.fixture
async def demo(visit: Visit, demo_url: str) -> AsyncIterator[Visit]:
    """GraphiQL as the demo has it, with an administrator's token."""
    with served(demo_url, bearer(Role.ADMIN)) as url:
        await visit.arrive(url)
        yield visit


async def test_the_demo_s_page_knows_the_schema_and_runs_its_first_example(demo: Visit) -> None:
    assert await demo.page.title() == "GraphiQL - Stockshift"
    token, answer = await demo.run()
    assert token == bearer(Role.ADMIN)["Authorization"]
    assert answer["data"]["items"]["totalCount"] == 1
    await demo.sees(".result-window", '"name": "Desk fan"')
    await demo.sees_the_schema()


async def test_every_example_opens_from_the_panel_and_succeeds(demo: Visit) -> None:
    shown = await demo.page.locator(".examples strong").all_inner_texts()
    examples = [file.read_text() for file in sorted(EXAMPLES.glob("*.graphql"))]
    assert len(shown) == len(examples)
    for name, example in zip(shown, examples, strict=True):
        await demo.open_example(name, example.splitlines()[1])
        if example.splitlines()[1].startswith("subscription"):
            await demo.page.get_by_role("button", name="Execute query").click()
            await demo.sees(".result-window", f'"{name[0].lower()}{name[1:]}"')
            continue
        _, answer = await demo.run()
        assert "errors" not in answer, name
        refused = [error for one in answer["data"].values() if isinstance(one, dict) for error in one.get("errors", ())]
        assert {error["code"] for error in refused} <= {"MIGRATION_NOT_STARTED", "CONFIRMATION_MISMATCH"}, (
            "no run is there to pause, and the demo's shop has another name here"
        )


async def test_a_subscription_shows_each_change_and_a_person_s_token_decides(demo: Visit, demo_url: str) -> None:
    await demo.open_example("MigrationProgress", "subscription MigrationProgress {")
    async with psql(demo_url) as connection:
        await connection.execute(
            """
            INSERT INTO stockshift.migration_run (kind, driver, started_at, items_total, items_copied)
            VALUES ('online', 'test', now(), 987, 12)
            """
        )
        await demo.page.get_by_role("button", name="Execute query").click()
        await demo.sees(".result-window", '"done": 12')
        await connection.execute("UPDATE stockshift.migration_run SET items_copied = 345 WHERE kind = 'online'")
        await demo.sees(".result-window", '"done": 345')
        await connection.execute("UPDATE stockshift.migration_run SET state = 'FINISHED' WHERE kind = 'online'")
        await demo.sees(".result-window", '"FINISHED"')
    await demo.paste_headers(bearer(Role.STAFF))
    await demo.page.get_by_role("button", name="Execute query").click()
    await demo.sees(".result-window", "FORBIDDEN")
    assert demo.sockets == 2


async def test_an_example_that_is_open_already_is_shown_and_not_opened_again(demo: Visit) -> None:
    for name, first_line in [("Locations", "query Locations {"), ("Items", "query Items {")] * 2:
        await demo.open_example(name, first_line)
    assert await demo.page.locator(".graphiql-tab").count() == 2


async def test_the_token_that_a_person_pastes_is_the_one_that_is_sent(demo: Visit) -> None:
    await demo.paste_headers(bearer(Role.STAFF))
    token, answer = await demo.run()
    assert token == bearer(Role.STAFF)["Authorization"]
    assert "data" in answer


async def test_a_token_is_not_kept_by_the_browser(demo: Visit) -> None:
    await demo.paste_headers(bearer(Role.STAFF))
    await demo.run()
    await demo.open_example("Locations", "query Locations {")
    await demo.page.wait_for_function("() => localStorage['graphiql:tabState'].includes('query Locations')")
    kept = await demo.page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, location.href])")
    assert "Bearer" not in kept
    assert await demo.page.context.cookies() == []

    await demo.page.reload()
    await demo.sees(QUERY, "query Locations {")
    await demo.sees(HEADERS, "Authorization")
    token, _ = await demo.run()
    assert token == bearer(Role.ADMIN)["Authorization"]


async def test_without_a_token_of_its_own_the_page_takes_a_person_s(visit: Visit, shop_url: str) -> None:
    with served(shop_url) as url:
        await visit.arrive(url)
        token, answer = await visit.run()
        assert (token, answer["errors"][0]["extensions"]["code"]) == (None, "UNAUTHENTICATED")
        assert all("401" in complaint for complaint in visit.complaints)
        visit.complaints.clear()

        await visit.paste_headers(bearer(Role.MANAGER))
        await visit.page.keyboard.press("Control+Shift+R")
        await visit.sees_the_schema()
        token, answer = await visit.run()
        assert token == bearer(Role.MANAGER)["Authorization"]
        assert "data" in answer
