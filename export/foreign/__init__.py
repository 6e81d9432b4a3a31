"""Modules that somebody else wrote, found out on runs and put behind the call of this house.

    its own forward: any names, axes and precision   becomes   (x, lengths, state) -> (y, state)

First what can be read off it: the names of its arguments (call_roles). Then what only runs can tell: how it takes its
sequence (input_probe, input_trial; where nothing runs, input_refusal says why), its mask (mask_probe), lengths and
states (probes), and how it lays out its answer (answer, output_probe, answered_steps). With that it is called (call),
its recurrent layers exchanged for this house's (exchange, exchanged_layer), and the network so made (network) is held
against the module as it came (original_proof).

Rules of this folder: a name is a hint, and a run decides; what neither tells is refused. It knows torch, and no ONNX.
"""
