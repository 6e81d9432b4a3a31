"""Triton's server from the ``nvidia-pytriton`` wheel: writes a model repository and becomes the server.

The wheel carries the binary and its Python backend, not the other backends. The backend's helper process embeds the
interpreter: it needs its libpython on the library path, and its packages by way of PATH.
"""

import os
import shutil
import sys
import sysconfig
import tempfile
from importlib.util import find_spec
from pathlib import Path

from network import BATCH, BATCH_WAIT_S, MODEL, PORT, Network

CONFIG = """
name: "speaker"
backend: "python"
max_batch_size: {batch}
input [ {{ name: "x" data_type: TYPE_FP32 dims: [ -1, {input_dim} ] allow_ragged_batch: true }} ]
output [ {{ name: "y" data_type: TYPE_FP32 dims: [ 9 ] }} ]
instance_group [ {{ count: 1 kind: KIND_CPU }} ]
dynamic_batching {{ max_queue_delay_microseconds: {wait_us} }}
parameters {{ key: "model" value: {{ string_value: "{model}" }} }}
"""


def write_repository(folder: Path) -> None:
    """Lay out the repository: speaker/config.pbtxt and speaker/1/model.py."""
    version = folder / "speaker" / "1"
    version.mkdir(parents=True)
    here = Path(__file__).parent
    shutil.copy(here / "triton_model.py", version / "model.py")
    shutil.copy(here / "network.py", version)
    config = CONFIG.format(
        batch=BATCH, input_dim=Network().input_dim, wait_us=round(BATCH_WAIT_S * 1_000_000), model=MODEL
    )
    (folder / "speaker" / "config.pbtxt").write_text(config)


def main() -> None:
    """Become the server."""
    spec = find_spec("pytriton")
    assert spec is not None
    assert spec.origin is not None
    triton = Path(spec.origin).parent / "tritonserver"
    # The wheel has a helper for each interpreter; the backend looks for its own in its own folder.
    stub = triton / "python_backend_stubs" / f"3.{sys.version_info.minor}" / "triton_python_backend_stub"
    shutil.copy(stub, triton / "backends" / "python")
    repository = Path(tempfile.mkdtemp())
    write_repository(repository)
    libraries = [sysconfig.get_config_var("LIBDIR"), os.environ.get("LD_LIBRARY_PATH", "")]
    os.environ["LD_LIBRARY_PATH"] = ":".join(filter(None, libraries))
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    server = str(triton / "bin" / "tritonserver")
    options = {
        "model-repository": repository,
        "backend-directory": triton / "backends",
        "http-address": "127.0.0.1",
        "http-port": PORT,
        "allow-grpc": "false",
        "allow-metrics": "false",
        "http-thread-count": 1,
    }
    os.execv(server, [server, *(f"--{name}={value}" for name, value in options.items())])  # noqa: S606


if __name__ == "__main__":
    main()
