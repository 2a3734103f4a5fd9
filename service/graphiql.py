"""GraphiQL for a browser, served by the service itself: nothing comes from elsewhere, nothing inline runs.

`make web` puts the page and its assets into web/dist. Without them a small page says so, and how to ask all the same.
"""

import html
import json
import re
import shlex
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from string import Template
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles

from db.errors import StockshiftError

BUILT = Path(__file__).parent.parent / "web" / "dist"
EXAMPLES = Path(__file__).parent / "examples"
ASSETS = "graphiql-assets"  # as in web/vite.config.js

HEADERS = {
    # Monaco, the editor, makes style elements and attributes as it runs; docs/decisions/0005-graphiql.md.
    "Content-Security-Policy": "; ".join(
        [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self' 'unsafe-inline'",
            "connect-src 'self'",
            "worker-src 'self'",
            "font-src 'self' data:",
            "img-src 'self' data:",
            "frame-ancestors 'none'",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

NOT_BUILT = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>GraphiQL is not built - Stockshift</title>
<link rel="icon" href="data:,">
<style>
:root { color-scheme: light dark; font: 1rem/1.5 system-ui, sans-serif }
body { max-width: 46rem; margin: 3rem auto; padding: 0 1rem }
pre { padding: 1rem; border: 1px solid; overflow-x: auto }
</style>
</head>
<body>
<h1>GraphiQL is not built</h1>
<p>The GraphQL endpoint works; only this page for a browser is missing. It needs Node.js once, to be built:</p>
<pre>make web</pre>
<p>Then reload this page. Meanwhile, from a shell:</p>
<pre>$curl</pre>
<p>A token is what <code>stockshift token --role manager</code> prints.</p>
</body>
</html>
""")


def graphiql_page(
    request: Request,
    *,
    endpoint: str = "/graphql",
    default_headers: Mapping[str, str] | None = None,
    built: Path = BUILT,
) -> Response:
    """The page for a browser. `default_headers` are shown and sent by it: secrets only where nobody else can ask."""
    try:
        page = (built / "index.html").read_text(encoding="utf-8")
    except FileNotFoundError:
        url = f"{request.url.scheme}://{request.url.netloc}{endpoint}"
        page = NOT_BUILT.substitute(curl=html.escape(_curl(url, default_headers)))
    else:
        settings = {
            "endpoint": endpoint,
            "headers": dict(default_headers) if default_headers else None,
            "examples": _examples(),
        }
        # Within a script element only "<" could end the JSON.
        page = page.replace("__SETTINGS__", json.dumps(settings).replace("<", r"\u003c"))
    return HTMLResponse(page, headers={**HEADERS, "Cache-Control": "no-store"})


def graphiql_routes(*, built: Path = BUILT) -> list[BaseRoute]:
    """The scripts, styles and fonts which the page asks for."""
    return [Mount(f"/{ASSETS}", Assets(directory=built / ASSETS, check_dir=False), name="graphiql-assets")]


class Assets(StaticFiles):
    """Files named after their content: a browser need not ask for one twice."""

    async def check_config(self) -> None:
        """The directory may come while the service runs; until then its files are not found, which is no fault."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers.update({**HEADERS, "Cache-Control": "public, max-age=31536000, immutable"})
        return response


@cache
def _examples() -> list[dict[str, str]]:
    """Each example's operation name, what its first line says about it, and its text."""
    examples = []
    for file in sorted(EXAMPLES.glob("*.graphql")):
        text = file.read_text(encoding="utf-8")
        found = re.match(r"# (?P<about>.+)\n(?:query|mutation|subscription) (?P<name>\w+)", text)
        if found is None:
            raise StockshiftError(f"{file.name} must begin with a comment line and then a named operation")
        examples.append({**found.groupdict(), "query": text})
    return examples


def _curl(url: str, headers: Mapping[str, str] | None) -> str:
    sent = {"Content-Type": "application/json", **(headers or {"Authorization": "Bearer <token>"})}
    query = "{ items(first: 3) { totalCount edges { node { name totalQuantity } } } }"
    return " \\\n  ".join(
        [
            f"curl {shlex.quote(url)}",
            *(f"-H {shlex.quote(f'{name}: {value}')}" for name, value in sent.items()),
            f"-d {shlex.quote(json.dumps({'query': query}))}",
        ]
    )
