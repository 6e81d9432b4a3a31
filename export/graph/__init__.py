"""The ONNX graph of a network, batch and time free.

    network -> lowering (recurrent layers as operators or scans) -> capture and translation (onnx_graph) -> clean_graph

A cell that is an ONNX ``LSTM`` or ``GRU`` in disguise is recognised (recognise, cell_probe) and becomes the operator
(fused_form, recurrent_ops); any other becomes a ``Scan``, out of which goes what need not be in the loop (hoist,
scan_edit). What PyTorch's capture would make plain numbers of stays free (free_length, free_pooling, ragged), what is
computed and what code asks of torch is said as the graph needs it (free_twins, eager_answers), and what float32 would
lose as it can keep it (exact_ops, exact_sigmoids). What a capture takes for granted is tried (assumptions), and what it
freezes is refused with its place (size_guards, capture_error).
"""
