r"""Loops over time that a module's own forward runs in Python: found, rolled up into recurrent layers, and proved.

A picture. Of ``for t in range(T): h = tanh(x[:, t] + h @ U)`` the capturer leaves, for 3 steps and without the weights,
this (Unrolled):

    v0 = input           v1 = zeros
    v2 = step 0 of v0    v3 = v1 @ U    v4 = v2 + v3      v5 = tanh(v4)      has seen step 0
    v6 = step 1 of v0    v7 = v5 @ U    v8 = v6 + v7      v9 = tanh(v8)      has seen 0, 1
    v10 = step 2 of v0   v11 = v9 @ U   v12 = v10 + v11   v13 = tanh(v12)    has seen 0, 1, 2

Each line is an iteration, each column a place in the body of the loop. The lines are alike but for the step and for
v1, v5, v9, which come from the line before: what tanh gives is carried, and v1 is its initial state (Loop). The program
is, in short (Program),

    i0 = input    i1 = B    i2 = T    i3 = zeros    i4 = CELL 0 (i0, (i3,))    its result: the final state of CELL 0

where CELL 0 is a recurrent layer, its cell tanh(x + h @ U). Two captures with different T tell numbers that depend on T
from those that do not.

    capture -> Unrolled -> finder -> Loop -> program_builder -> Program \
                                                            (other T)   merged_program -> rolled_module -> proof
    capture -> Unrolled -> finder -> Loop -> program_builder -> Program /

A loop over what loops before gave, such as the second layer of a network that runs both ways, is found in the same way:
the steps of that are counted anew (Value.stage).

Words: a step is one t of the sequence; an iteration k reads step k, or T - 1 - k backwards; "old" is what the iteration
before gave; a row is one sequence of the batch, and "rows" of a value are those of all its steps, B * T.

Rules of this folder: it knows torch and the layers of this house, and no ONNX.
"""
