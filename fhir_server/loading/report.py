"""What a person sees of a load: a progress bar while it runs, and a summary of what failed and why."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from fhir_server.loading.files import File
from fhir_server.loading.run import Report

SHOWN_FAULTS = 50


@contextmanager
def progress(console: Console, files: Sequence[File]) -> Iterator[Callable[[Report], None]]:
    """A function that moves the bar to a report; the bar measures bytes of files, as lines are not known before."""
    columns = (
        TextColumn("Loading"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %  {task.fields[told]}"),
        TimeElapsedColumn(),
    )
    total = sum(file.size for file in files)
    with Progress(*columns, console=console, transient=True, refresh_per_second=4) as bars:
        task = bars.add_task("load", total=total or 1, told="")
        yield lambda report: bars.update(task, completed=report.bytes, told=_told(report, len(files)))


def _told(report: Report, files: int) -> str:
    rate = report.loaded / report.seconds
    failed = f", [red]{report.failed:,} failed[/red]" if report.failed else ""
    return f"{report.files:,}/{files:,} files, {report.loaded:,} resources{failed}, {rate:,.0f}/s"


def summarize(console: Console, report: Report) -> None:
    """Print what was loaded, what was there before, and what failed and why."""
    rate = report.loaded / report.seconds
    source = f" from {report.files:,} {'file' if report.files == 1 else 'files'}" if report.files else ""
    console.print(
        f"Loaded {report.loaded:,} resources{source} in {report.seconds:.1f} s ({rate:,.0f}/s).",
        highlight=False,
    )
    if report.known:
        text = f"{report.known:,} resources were loaded before and not sent again (--again sends them)."
        console.print(text, highlight=False)
    if report.passed:
        console.print(f"Passed over, as they are no resources: {escape(', '.join(report.passed))}", highlight=False)
    for fault in report.faults[:SHOWN_FAULTS]:
        console.print(f"[red]{escape(fault.place)}[/red]: {escape(fault.reason)}", highlight=False, soft_wrap=True)
    if report.failed > SHOWN_FAULTS:
        console.print(f"... and {report.failed - SHOWN_FAULTS:,} more.", highlight=False)
    if report.failed:
        console.print(
            f"[red]{report.failed:,} failed.[/red] Run the command again to send only these.", highlight=False
        )
