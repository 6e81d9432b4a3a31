"""cellgate deploys recurrent networks: PyTorch LSTM to verified ONNX bundle to served prediction.

The folders are the way of the data: model -> export -> bundle -> serve -> client. This file must know none of them.

Importing cellgate has exactly one effect, and it is here on purpose: official onnxruntime wheels since 1.29 send
telemetry unless ORT_DISABLE_TELEMETRY is set before their first import, and no later place can be sure to come first.
"""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"

__all__ = ["__version__"]
