"""How a command ends: its exit code, and one line on stderr when it could not do as asked.

0 done, 1 the answer is no (a mismatch, a blocker, a refusal), 2 it could not run, 130 interrupted, 143 terminated.
"""

import os
import signal
import sys
from types import FrameType

import click

from db.demo_shop import DemoShopExists
from db.errors import StockshiftError
from migration.archive import ConfirmationMismatch, NotArchived, Superseded
from migration.atomic import NotVerified
from migration.blockers import Blocked
from migration.draft import Changed
from migration.failures import Refused
from migration.gates import GateClosed
from migration.lease import LeaseLost
from migration.locks import LockNotHad, MigrationRunning
from migration.manifest import BadBackup
from migration.repair import NoDrift, NotRepaired
from migration.restore import NotProven, NotRestored
from migration.rollback import AlreadyRolledBack, Contracted
from migration.run import NoRun
from service.terminal import complain

SIGNALLED = 128
PIPE_CLOSED = SIGNALLED + signal.SIGPIPE


class Declined(StockshiftError):
    """Nothing was changed."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM; the argument says what becomes of what was under way."""


REFUSALS = (
    *(
        BadBackup,
        Blocked,
        Changed,
        Declined,
        DemoShopExists,
        GateClosed,
        LeaseLost,
        LockNotHad,
        MigrationRunning,
        NoRun,
        NotProven,
    ),
    *(NoDrift, NotRepaired, NotRestored, NotVerified, Refused),
    *(AlreadyRolledBack, ConfirmationMismatch, Contracted, NotArchived, Superseded),
)


def run(cli: click.Command, name: str) -> int:
    """Runs the command of the command line and answers the exit code."""
    told = listen_for_sigterm()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a shop's names on a terminal that lacks their letters
    try:
        with cli.make_context(name, sys.argv[1:]) as context:
            answer = cli.invoke(context)
        return answer if isinstance(answer, int) else 0
    except click.exceptions.Exit as ended:  # --help and --version
        return ended.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return 2
    except click.ClickException as error:
        context_of = getattr(error, "ctx", None)
        complain(f"{error.format_message()} See `{context_of.command_path if context_of else name} --help`.")
        return 2
    except StockshiftError as error:
        complain(error.message)
        return 1 if isinstance(error, REFUSALS) else 2
    except (KeyboardInterrupt, click.Abort) as error:
        signal_number = signal.SIGTERM if told else signal.SIGINT
        left = error.args[0] if isinstance(error, Interrupted) else "what was not finished was undone"
        complain(f"{'terminated' if told else 'interrupted'}; {left}")
        return SIGNALLED + signal_number
    except BrokenPipeError:  # as `| head` leaves us; Python would complain once more when it flushes at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except OSError as error:
        place = f" {error.filename}:" if error.filename else ""
        complain(f"{place} {error.strerror or error}; see that there is space and that you may use it".strip())
        return 2


def listen_for_sigterm() -> list[int]:
    """From now on SIGTERM does what Ctrl-C does, which undoes what is under way; the list tells that it came."""
    told: list[int] = []

    def as_interrupt(number: int, frame: FrameType | None) -> None:
        told.append(number)
        handler = signal.getsignal(signal.SIGINT)
        if not callable(handler):  # Ctrl-C is ignored in the background of a script; SIGTERM is not
            raise KeyboardInterrupt
        handler(signal.SIGINT, frame)

    signal.signal(signal.SIGTERM, as_interrupt)
    return told
