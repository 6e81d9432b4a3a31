"""`cellgate bench`: a server under load, or what a bundle can reach on this machine without one.

Rules of this file: it tells a URL from a bundle and refuses options that do not fit; the rest is bench_load's and
bench_limit's, loaded only when needed: a load needs no runtime.
"""

import argparse
from pathlib import Path
from typing import Final

from ..client.address import is_url
from .bench_options import BUNDLE_ONLY, URL_ONLY
from .bundle_remedy import export_line
from .errors import UsageError
from .extras import load
from .output_place import refuse_inside_bundle

FORMS: Final = (".svg", ".html")


def run(arguments: argparse.Namespace) -> int:
    """Measure and print.

    Raises:
        UsageError: options that do not go together, or neither a URL nor a bundle.
        ClientError: the server cannot be reached or measured, or lengths that are none.
        BundleError, ServeError: the bundle is damaged, or cannot run here.
    """
    for_url = is_url(arguments.target)
    _refuse(arguments, BUNDLE_ONLY if for_url else URL_ONLY, "a BUNDLE" if for_url else "a URL")
    if arguments.stream_state is not None and arguments.stream_steps is None:
        raise UsageError("--stream-state: expected --stream-steps K with it, found none; say how long the parts are")
    _check_plot(arguments.plot)
    if not for_url and not Path(arguments.target).exists():
        raise UsageError(
            f"{arguments.target}: expected http://HOST:PORT or a bundle's folder, found nothing there; a URL begins "
            f"with http://, and a bundle is made by {export_line(arguments.target)}"
        )
    module = load(f"{__package__}.bench_{'load' if for_url else 'limit'}", "bench")
    status: int = module.run(arguments)
    return status


def _refuse(arguments: argparse.Namespace, names: tuple[str, ...], place: str) -> None:
    for name in names:
        if getattr(arguments, name) is not None:
            option = f"--{name.replace('_', '-')}"
            raise UsageError(f"{option}: expected {place} with it, found {arguments.target}; leave {option} out")


def _check_plot(text: str | None) -> None:
    """Refuse before measuring what could not be written afterwards."""
    if text is None:
        return
    path = Path(text)
    if path.suffix not in FORMS:
        raise UsageError(f"--plot {path}: expected {' or '.join(FORMS)}, found {path.suffix or 'no suffix'!r}")
    if not path.parent.is_dir():
        raise UsageError(f"--plot {path}: expected the folder {path.parent} to exist, found none; make it first")
    refuse_inside_bundle("--plot", path)
