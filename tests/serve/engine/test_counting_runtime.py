"""A runtime that counts, against counts made by hand."""

import numpy as np

from cellgate.serve.engine.counting_runtime import CountingRuntime

from .limit_machine import Machine, signature_of


def test_a_counting_runtime_counts_and_is_otherwise_the_runtime():
    machine = Machine(signature_of())
    counting = CountingRuntime(machine)
    state = np.zeros((1, 2, 3), np.float32)
    counting.run({"x": np.zeros((2, 5, 2)), "lengths": np.array([3, 5], np.int32), "h0": state})
    counting.close()

    assert (counting.useful, counting.computed) == (8, 10)
    assert (counting.facts, counting.provider, counting.device) == (machine.facts, "fake", "cpu")
    assert counting.signature is machine.signature
    assert machine.closed


def test_without_lengths_every_step_is_a_real_one():
    machine = Machine(signature_of(lengths=None))
    counting = CountingRuntime(machine)
    counting.run({"x": np.zeros((2, 5, 2)), "h0": np.zeros((1, 2, 3))})

    assert (counting.useful, counting.computed) == (10, 10)
