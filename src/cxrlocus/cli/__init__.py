"""The command line: a verb a file. Modules here import what a verb needs only when it runs, so that help is instant."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from cxrlocus import __version__
from cxrlocus.errors import CxrlocusError

VERBS = ("demo", "data", "train", "predict", "evaluate", "report", "study")
"""Every verb; each is a module here with HELP, EXAMPLE, add_arguments(parser) and run(args) -> exit status."""

TOP_EXAMPLE = """examples:
  cxrlocus demo                                   the whole chain on phantom films, no data needed
  cxrlocus train cam --data NIH --out runs/cam    learn from labels
  cxrlocus predict runs/cam --data NIH --split test --out pred
  cxrlocus evaluate pred --data NIH               accuracy against radiologists' boxes
  cxrlocus report pred --data NIH --out page      one HTML page

`cxrlocus VERB --help` shows a verb's options and an example."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line and exit status 2."""

    def error(self, message: str) -> NoReturn:
        """Print one line that says what is off and where help is."""
        self.exit(2, f"{self.prog}: {message}. See `{self.prog} --help`.\n")


def make_parser() -> Parser:
    """The parser of all verbs."""
    parser = Parser(
        prog="cxrlocus",
        description="From image-level labels, say where: weakly supervised localization in chest radiographs.",
        epilog=TOP_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"cxrlocus {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=Parser)
    for name in VERBS:
        module = importlib.import_module(f"cxrlocus.cli.{name}")
        verb = verbs.add_parser(
            name,
            help=module.HELP,
            description=module.HELP,
            epilog=f"example:\n  {module.EXAMPLE}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        module.add_arguments(verb)
        verb.set_defaults(run=module.run)
    return parser


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The arguments of one command.

    argparse takes a list of files only up to the next option; files after it are added here, so that
    `predict RUN --out PRED a.png` means the same as `predict RUN a.png --out PRED`.
    """
    parser = make_parser()
    args, rest = parser.parse_known_args(arguments)
    if rest and (not hasattr(args, "files") or any(word.startswith("-") for word in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        getattr(args, args.files).extend(Path(word) for word in rest)
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0, 1 for an error, 2 for a usage error, 130 for Ctrl-C.

    Every error is one line on standard error; ``--debug`` (anywhere after the verb) shows the traceback.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    args = parse([a for a in arguments if a != "--debug"])
    try:
        return int(args.run(args))
    except KeyboardInterrupt:
        print(f"cxrlocus {args.verb}: stopped; run the same command again to go on", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader (head, say) closed the pipe: not an error of ours. The stream must not be flushed again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (CxrlocusError, OSError, MemoryError) as error:
        if debug:
            traceback.print_exc()
        print(f"cxrlocus {args.verb}: {_one_line(error)}", file=sys.stderr)
        return 1


def _one_line(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return "out of memory; use a smaller size or batch"
    if isinstance(error, OSError) and error.strerror:
        return (
            f"{error.filename or 'file'}: {error.strerror}. Check the path, its permissions and the space on its disk."
        )
    return " ".join(str(error).split())


if __name__ == "__main__":
    sys.exit(main())
