"""GraphQL over HTTP, as its working group audits it: graphql-http's own audits, against the service."""

import json
import shutil
import subprocess
from pathlib import Path

from tests.service.processes import environment, serving, token
from tests.support import missing

AUDITS = Path(__file__).parent / "audits"
COUNT = 61


def test_every_audit_of_graphql_over_http_passes(shop_url: str) -> None:
    if not (shutil.which("node") and shutil.which("npm")):
        missing("Node.js with npm")
    if not (AUDITS / "node_modules" / "graphql-http").exists():
        subprocess.run(["npm", "ci", "--silent"], cwd=AUDITS, check=True)
    with serving(shop_url) as service:
        done = subprocess.run(
            ["node", "audit.mjs"],
            cwd=AUDITS,
            env=environment(URL=f"{service.url}/graphql", TOKEN=token()),
            capture_output=True,
            text=True,
            check=True,
        )
    audits = json.loads(done.stdout)
    assert len(audits) == COUNT
    assert [audit for audit in audits if audit["status"] != "ok"] == []
