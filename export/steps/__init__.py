"""Modules that take one step a call, with the state as an argument and given back: put in a loop over time.

    (x [B, I], state) -> (answer [B, O], state)   becomes   x [B, T, I] -> y [B, T, O]

How a module is called is found out on runs (step_probe.py). Three ways lead to a network, the first that is proved
equal to the module called step after step is taken (stepped.py): all steps as rows in one call, with the recurrent
layers given whole sequences (all_steps.py); the loop rolled up like any other (step_loop.py); the whole module as a
cell (step_cell.py).

Rules of this folder: it knows torch and the rest of the export, and no ONNX; nothing is believed that a run can show.
"""
