"""The command line: the verbs, each of which is a module of service/commands and a thin caller of what serves too."""

import sys
from importlib import import_module

import click

from service import endings

VERBS = (
    *(
        "backup",
        "contract",
        "cut-over",
        "demo",
        "migrate",
        "plan",
        "read-source",
        "rehearse",
        "repair",
        "restore",
        "rollback",
    ),
    *("schema", "serve", "status", "take-back", "token", "verify", "write-back"),
)


class Verbs(click.Group):
    """Imports a verb when it is asked for: what one needs would keep all others waiting."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        verb: click.Command = import_module(f"service.commands.{cmd_name.replace('-', '_')}").command
        verb.name = cmd_name
        return verb


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="stockshift", message="%(prog)s %(version)s")
def cli() -> None:
    """A GraphQL stock service, and the way from one row per item to many batches without losing anything.

    Exit codes: 0 done, 1 the answer is no (a mismatch, a blocker, a refusal), 2 it could not run.
    """


def main() -> None:
    sys.exit(endings.run(cli, "stockshift"))
