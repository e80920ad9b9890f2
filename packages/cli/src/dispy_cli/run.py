"""``dispy run``: a program, once for each ``-a``, in parallel on all nodes."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import click

import dispy
from dispy.errors import DispyError
from dispy_cli import exits
from dispy_cli.arguments import check_texts, list_jobs, read_lines
from dispy_cli.diagnostics import log_to_stderr
from dispy_cli.outcomes import JsonPrinter, Printer, TextPrinter
from dispy_cli.progress import NoProgress, ProgressLine, choose_progress
from dispy_cli.running import Feeder, Run, describe_tally, signals_stop
from dispy_cli.security import security_options, take_security
from dispy_cli.wording import while_waiting

WAIT_NODES_S = 10.0
"""Default of ``--wait-nodes``; a node that is there answers in milliseconds, one that is starting in seconds."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What the command line says; see ``dispy run --help``."""

    program: str
    args: tuple[str, ...]
    file: tuple[str, ...]
    nodes: tuple[str, ...]
    dispy_port: int | None
    wait_nodes: float | None
    json: bool
    verbose: bool
    quiet: bool
    debug: bool
    security: dict[str, Any] = field(default_factory=dict, repr=False)
    """Parameters of the cluster that say who may take part."""


@click.command("run", context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "-a",
    "--args",
    multiple=True,
    metavar='"ARGS"',
    help="Arguments of one job, split at white space except in quotes (repeatable). "
    "'-' reads one job from each line of standard input.",
)
@click.option(
    "-f",
    "--file",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False),
    help="File that the program needs beside it (repeatable).",
)
@click.option(
    "-n",
    "--nodes",
    multiple=True,
    metavar="NODE",
    help="Name, address, host:port or pattern of a node to use (repeatable); 'local' is this machine. "
    " [default: those that are found, else this machine]",
)
@click.option(
    "-p",
    "--dispy_port",
    "--dispy-port",
    type=click.IntRange(1, 65534),
    help="Nodes listen on the port above this.  [default: 51347]",
)
@click.option(
    "--wait-nodes",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="How long to wait for the first usable node; 'inf' waits for ever.  "
    f"[default: {WAIT_NODES_S:g}, without end where a node is started on this machine]",
)
@click.option(
    "--json", is_flag=True, help="Print one JSON object for each job, with all that is known of it."
)
@click.option("-v", "--verbose", is_flag=True, help="Print a line about each job before its output.")
@click.option("-q", "--quiet", is_flag=True, help="No progress, no list of failed jobs, no summary.")
@click.option("-d", "--debug", is_flag=True, help="Log what dispy does, on standard error.")
@security_options
@click.argument("program")
def run(**options: Any) -> int:
    """Run PROGRAM once for each -a, in parallel on all nodes.

    What the jobs write appears here in the order of the jobs: their output on standard output, their errors on
    standard error.

    \b
      dispy run -f table.csv -a "north 1" -a "south 2" ./simulate
      seq 1000 | dispy run -a - ./simulate > results.txt

    Exit status: 0 all jobs ended with status 0, 1 some did not, 2 wrong usage, 3 no nodes, 130 interrupted.
    """
    security = take_security(options).parameters()
    return run_program(RunOptions(**options, security=security))


def run_program(options: RunOptions) -> int:
    """Do what the options say and return the exit status; the standard streams are those of the process.

    Raises:
        UsageError: an option is wrong.
        NoNodesError: there is no usable node.
        KeyboardInterrupt: it was interrupted; nothing is left running.
    """
    check_texts(options.args)
    log_to_stderr(logging.DEBUG if options.debug else logging.WARNING)
    began = time.monotonic()
    progress = choose_progress(wanted=not options.quiet)
    printer = _choose_printer(options, progress)
    with progress, signals_stop(), _rewording(options), _open_cluster(options) as cluster:
        jobs = list_jobs(options.args, _read_stdin)
        runner = Run(
            cluster,
            Feeder(cluster.submit, jobs),
            printer.print,
            progress,
            node_timeout_s=_node_timeout(options),
        )
        try:
            tally = runner.run()
        except KeyboardInterrupt as interrupt:
            took_s = time.monotonic() - began
            _tell(f"interrupted after {describe_tally(runner.tally, took_s)}; the other jobs are ended")
            raise exits.Told(exits.status_of_interrupt(interrupt)) from interrupt
    if not options.quiet:
        _tell(describe_tally(tally, time.monotonic() - began))
    return exits.SOME_JOB_FAILED if tally.failed else exits.SUCCESS


def _rewording(options: RunOptions) -> AbstractContextManager[None]:
    """Let the library talk of options rather than parameters."""
    from dispy.runtime.thread import rewording

    timeout_s = _node_timeout(options)
    return rewording(lambda text: while_waiting(text, timeout_s))


@contextmanager
def _open_cluster(options: RunOptions) -> Iterator[dispy.JobCluster]:
    """Give a cluster for the program; when the block is left by an exception, jobs that run are ended."""
    cluster = dispy.JobCluster(
        options.program,
        nodes=list(options.nodes) or None,
        depends=list(options.file),
        dispy_port=options.dispy_port,
        **options.security,
    )
    try:
        yield cluster
    except BaseException:
        cluster.close(timeout=0, terminate=True)
        raise
    cluster.close()


def _choose_printer(options: RunOptions, progress: ProgressLine | NoProgress) -> Printer:
    out, err = sys.stdout.buffer, sys.stderr.buffer
    if options.json:
        return JsonPrinter(out, err, progress, tell_failures=not options.quiet)
    return TextPrinter(out, err, progress, headings=options.verbose, tell_failures=not options.quiet)


def _node_timeout(options: RunOptions) -> float:
    """Return how long to wait for the first node, in seconds."""
    from dispy.runtime.embedded import is_available

    if options.wait_nodes is not None:
        return options.wait_nodes
    # A node that is started here comes, however slow the machine may be.
    return math.inf if not options.nodes and is_available() else WAIT_NODES_S


def _read_stdin() -> Iterator[bytes]:
    try:
        yield from read_lines(sys.stdin.fileno())
    except OSError as error:
        raise DispyError(f"standard input cannot be read: {error}") from error


def _tell(text: str) -> None:
    print(f"dispy: {text}", file=sys.stderr, flush=True)
