"""The command line: one command, one file; each parses, calls and prints."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from compressrl import __version__
from compressrl.cli import (
    compress,
    doctor,
    evaluate,
    export,
    list_plugins,
    profile,
    recommend,
    study,
    terminal,
    train,
    zoo,
)

app = typer.Typer(
    name="compressrl",
    help="Which compressed version of a control policy to deploy: train, compress, and measure side by side.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command("list-plugins")(list_plugins.list_plugins)
app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.command("profile")(profile.profile)
app.command("recommend")(recommend.recommend)
app.command("compress")(compress.compress)
app.command("export")(export.export)
app.command("zoo")(zoo.zoo)
app.add_typer(study.app, name="study")
app.command("doctor")(doctor.doctor)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"compressrl {__version__}")  # noqa: T201 (the output that was asked for)
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    terminal.debug = debug


def main() -> None:
    """Entry point of the `compressrl` command."""
    arguments = sys.argv[1:]
    if "--debug" in arguments:
        # Taken at any place of the line, not only before the command.
        arguments = ["--debug", *(a for a in arguments if a != "--debug")]
    app(arguments, prog_name="compressrl")
