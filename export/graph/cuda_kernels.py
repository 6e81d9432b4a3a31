"""Which fused forms onnxruntime's CUDA provider has a kernel for; whatever it has none for needs a ``Scan`` there.

cuDNN's recurrent layers know sigmoid gates and tanh, no peepholes, no coupled gates, no clipping, and a GRU whose reset
gate comes after the product. The provider leaves an operator that says anything else to the CPU
(``RNNNeedFallbackToCPU`` in onnxruntime/core/providers/cuda/cuda_execution_provider.cc; an attribute activation_alpha,
activation_beta or clip is enough). Projections and layer normalisation are no fused operator to begin with.

Rules of this file: a pure judgement, read from a source that is older than the runtime that will serve; the server asks
the runtime itself where nodes are (`serve.placement`).
"""

from typing import Final

from .fused_form import FusedForm

_ACTIVATIONS: Final = {"LSTM": ("sigmoid", "tanh", "tanh"), "GRU": ("sigmoid", "tanh")}


def runs_on_cuda(form: FusedForm) -> bool:
    """Whether the CUDA provider runs the operator that says this form."""
    if form.activations != _ACTIVATIONS[form.kind] or form.input_forget or form.peephole_order:
        return False
    return form.kind == "LSTM" or form.linear_before_reset
