"""`cellgate inspect`: what is in a file, found without running it.

Rules of this file: it tells the kinds of files apart; what each holds is found and shown by bundle_view, graph_view and
weights_view.
"""

import argparse
from pathlib import Path

from .bundle_remedy import export_line
from .bundle_view import show_bundle
from .errors import DONE, UsageError
from .graph_view import show_graph
from .terminal import Terminal
from .weights_view import CHECKPOINTS, show_weights


def run(arguments: argparse.Namespace) -> int:
    """Show what a bundle, an ONNX file or a checkpoint holds.

    Raises:
        UsageError: no such file, or of no known kind.
        BundleError: the bundle is damaged, or the file is no ONNX.
        MissingExtraError: a .pt checkpoint without torch.
    """
    path = Path(arguments.file)
    terminal = Terminal(json=arguments.json)
    if path.is_dir():
        show_bundle(path, terminal)
    elif not path.exists():
        raise UsageError(f"{path}: expected a bundle's folder, an .onnx file or a checkpoint, found nothing there")
    elif path.suffix == ".onnx":
        show_graph(path, terminal)
    elif path.suffix in CHECKPOINTS:
        show_weights(path, terminal)
    elif path.name == "manifest.json":
        raise UsageError(f"{path}: expected the bundle's folder, found its manifest; inspect {path.parent}")
    else:
        found = f"the suffix {path.suffix!r}" if path.suffix else "no suffix"
        remedy = "if it is one of them, give it the suffix of its form"
        if path.suffix == ".py":
            remedy = f"inspect the bundle that {export_line(str(path))} makes of it"
        raise UsageError(
            f"{path}: expected a bundle's folder, .onnx, {', '.join(CHECKPOINTS)}, found {found}; {remedy}"
        )
    return DONE
