"""``asnet serve``: web page and HTTP API."""

import argparse
from importlib.util import find_spec

from asnet.cli.batch import add_model_options, load_deblurrer, say, whole_number
from asnet.errors import ConfigurationError

_EPILOG = """examples:
  asnet serve
  asnet serve --port 9000 --device cuda
  curl -F photograph=@photo.jpg -F strength=0.8 http://127.0.0.1:8000/api/deblur -o sharp.jpg

The page works without internet. /api/schema.json describes the API.
Photographs are deblurred one at a time; uploads are deleted once the page has its result."""

#: Modules that the extra `web` installs.
_MODULES = ("fastapi", "uvicorn", "python_multipart")


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the subcommand and add its options."""
    parser.description = "Serve a page on which photographs are deblurred and compared, and an HTTP API."
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8000, help="port, 0 for any (default: 8000)")
    add_model_options(parser)
    parser.add_argument(
        "--max-upload",
        type=whole_number,
        default=200,
        metavar="MB",
        help="largest upload in megabytes (default: 200)",
    )
    parser.add_argument(
        "--max-pixels",
        type=whole_number,
        default=50,
        metavar="MP",
        help="largest photograph in millions of pixels (default: 50)",
    )
    parser.add_argument(
        "--queue",
        type=whole_number,
        default=8,
        metavar="N",
        help="photographs that may wait while one is deblurred (default: 8)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Serve until interrupted; 0."""
    missing = [module for module in _MODULES if find_spec(module) is None]
    if missing:
        raise ConfigurationError(
            f"asnet serve needs {', '.join(missing)}: pip install 'asnet[web]' installs what is missing"
        )
    from asnet.web.application import Limits
    from asnet.web.server import is_loopback, serve

    limits = Limits(arguments.max_upload * 1_000_000, arguments.max_pixels * 1_000_000, arguments.queue)
    deblurrer = load_deblurrer(arguments)
    if not is_loopback(arguments.host):
        say(
            f"asnet: warning: everyone who reaches {arguments.host} over the network can use this server; "
            "it has no password and does not encrypt"
        )
    serve(
        deblurrer,
        limits,
        host=arguments.host,
        port=arguments.port,
        announce=lambda address: say(f"asnet: the page is at {address} (Ctrl-C ends it)"),
    )
    return 0
