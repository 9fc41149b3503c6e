"""The command line: a verb a file. Modules here import what a verb needs only when it runs, so that help is instant."""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from cxrlocus import __version__
from cxrlocus.cli.common import say
from cxrlocus.errors import CxrlocusError

VERBS = ("demo", "data", "train", "predict", "consensus", "evaluate", "report", "study", "sanity", "harvest")
"""Every verb; each is a module here with HELP, EXAMPLE, add_arguments(parser) and run(args) -> exit status."""

TOP_EXAMPLE = """examples:
  cxrlocus demo                                   the whole chain on phantom films, no data needed
  cxrlocus train cam --data NIH --out runs/cam    learn from labels
  cxrlocus predict runs/cam --data NIH --split test --out pred
  cxrlocus evaluate pred --data NIH               accuracy against radiologists' boxes
  cxrlocus report pred --data NIH --out page      one HTML page
  cxrlocus harvest runs/cam --data NIH --out boxes  boxes for every labelled finding of an archive

`cxrlocus VERB --help` shows a verb's options and an example; `--debug` after a verb shows the traceback of an error."""


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
    parser.add_argument("-V", "--version", action="version", version=f"cxrlocus {__version__}")
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
    cut = rest.index("--") if "--" in rest else len(rest)
    if rest and (not hasattr(args, "files") or any(word.startswith("-") for word in rest[:cut])):
        unknown = " ".join(rest)
        parser.exit(2, f"{parser.prog}: unrecognized arguments: {unknown}. See `{parser.prog} {args.verb} --help`.\n")
    if rest:
        getattr(args, args.files).extend(Path(word) for word in rest[:cut] + rest[cut + 1 :])
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0, 1 for an error, 2 for a usage error, 130 for Ctrl-C.

    Every error is one line on standard error; ``--debug`` (anywhere after the verb) shows the traceback.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    args = parse([a for a in arguments if a != "--debug"])
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _tell_warning
            status = int(args.run(args))
        # What is still buffered is written here, where a full disk or a closed pipe can be told.
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        say(f"cxrlocus {args.verb}: stopped; run the same command again to go on")
        return 130
    except BrokenPipeError:
        # The reader (head, say) closed the pipe: not an error of ours.
        _forget_output()
        return 0
    except (CxrlocusError, OSError, MemoryError) as error:
        return _fail(args.verb, _one_line(error), debug=debug)
    except Exception as error:  # noqa: BLE001 - the last resort: no user is shown a traceback that was not asked for
        told = f"unexpected {type(error).__name__}: {' '.join(str(error).split())[:300]}"
        return _fail(args.verb, f"{told}. Please report it, with what --debug shows.", debug=debug)


def _tell_warning(message: Warning | str, *_: object, **__: object) -> None:
    """A warning as one line, without the place in the code that Python would print."""
    say(f"warning: {' '.join(str(message).split())}")


def _fail(verb: str, told: str, *, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    say(f"cxrlocus {verb}: {told}")
    try:
        sys.stdout.flush()
    except OSError:
        _forget_output()
    return 1


def _forget_output() -> None:
    """Standard output can take no more: what is buffered must not be tried again when the interpreter ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


REMEDIES = {
    errno.EEXIST: "A folder was expected there; give another path, or remove the file.",
    errno.ENOTDIR: "A folder was expected there; give another path.",
    errno.EISDIR: "A file was expected there; give another path.",
    errno.ENOENT: "Give a path that exists.",
    errno.EACCES: "Change its permissions, or give another path.",
    errno.EPERM: "Change its permissions, or give another path.",
    errno.EROFS: "Give another path.",
    errno.ENOSPC: "Make room on its disk and run the same command again.",
    errno.EDQUOT: "Make room on its disk and run the same command again.",
    errno.EFBIG: "Make room on its disk and run the same command again.",
}


def _one_line(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return "out of memory; use a smaller size or batch"
    if isinstance(error, OSError) and error.strerror:
        remedy = REMEDIES.get(error.errno or 0, "Check the path, its permissions and the space on its disk.")
        return f"{error.filename or 'output'}: {error.strerror}. {remedy}"
    return " ".join(str(error).split())


if __name__ == "__main__":
    sys.exit(main())
