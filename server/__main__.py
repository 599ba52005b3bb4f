"""`sqlwright-serve`: start the engine and the facade; settings come as options or SQLWRIGHT_…

Databases are registered by sub-commands: add-database, list-databases, remove-database (--help).
"""

import argparse
import asyncio
import sys

import uvloop
from pydantic import ValidationError

from eval.task.bundle import BundleError
from server import commands
from server.logs import configure_logs
from server.run import START_ERRORS, serve
from server.settings import PREFIX, Settings, unknown_variables


def parse(arguments: list[str]) -> Settings:
    """Settings from options, over those from the environment.

    Raises:
        ValidationError: a value is out of range or of another type.
    """
    parser = argparse.ArgumentParser(
        prog="sqlwright-serve", description=__doc__, allow_abbrev=False
    )
    for name, field in Settings.model_fields.items():
        option = "--" + name.replace("_", "-")
        parser.add_argument(option, dest=name, help=f"{field.description} ({PREFIX}{name.upper()})")
    chosen = {k: v for k, v in vars(parser.parse_args(arguments)).items() if v is not None}
    return Settings(**chosen)


def complain(text: str) -> int:
    print(f"sqlwright-serve: error: {text}", file=sys.stderr)
    return 1


def main(arguments: list[str]) -> int:
    if unknown := unknown_variables():
        return complain(f"{unknown[0]} is no setting; see README for the list")
    if arguments and commands.is_command(arguments[0]):
        return commands.main(arguments)
    try:
        settings = parse(arguments)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        return complain(f"{'.'.join(map(str, first['loc'])) or 'settings'}: {first['msg']}")
    configure_logs(settings.log_level)
    status = 0
    try:
        uvloop.run(serve(settings))
    except* (*START_ERRORS, BundleError, ValueError, OSError) as group:
        status = complain(str(_first(group)))
    except* (KeyboardInterrupt, asyncio.CancelledError):
        pass
    return status


def _first(error: BaseException) -> BaseException:
    """The first single error in nested groups, as task groups raise them."""
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


def run() -> None:
    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    run()
