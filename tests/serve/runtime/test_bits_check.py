"""Whether rows and chunks give the same bits: on the real runtime, and on runtimes that break one of the two."""

from dataclasses import replace

import numpy as np
import pytest

from cellgate.bundle.golden import GoldenCase
from cellgate.serve.runtime.bits_check import check_bits
from cellgate.serve.runtime.device_choice import open_runtime

ULP = np.float32(2.0**-20)


class Spoiling:
    """The real runtime, but for runs that a condition picks: their outputs are off a little."""

    def __init__(self, runtime, is_spoilt):
        self.runtime = runtime
        self.is_spoilt = is_spoilt
        self.shapes = []

    def run(self, feeds):
        self.shapes.append(next(iter(feeds.values())).shape[:2])
        found = self.runtime.run(feeds)
        return {name: array + ULP for name, array in found.items()} if self.is_spoilt(feeds) else found


def spoiling(bundle, is_spoilt):
    return Spoiling(open_runtime(bundle, device="cpu", threads=1), is_spoilt)


@pytest.mark.parametrize(("kind", "chunks"), [("steps", 2), ("last", 2), ("tokens", 3)])
def test_rows_and_chunks_give_the_same_bits_on_the_cpu(bundles, kind, chunks):
    result = check_bits(open_runtime(bundles[kind], device="cpu", threads=1), bundles[kind])

    assert (result.rows, result.rows_bitwise) == (3, True)
    assert (result.chunks, result.chunks_bitwise) == (chunks, True)
    assert result.largest == 0.0


def test_batch_that_changes_a_bit_is_found(bundles):
    result = check_bits(spoiling(bundles["steps"], lambda feeds: len(feeds["x"]) > 1), bundles["steps"])

    assert (result.rows_bitwise, result.chunks_bitwise) == (False, True)
    assert 0 < result.largest < 1e-5


def test_carried_state_that_changes_a_bit_is_found(bundles):
    bundle = bundles["last"]
    first = bundle.golden[0].inputs["h0"].tobytes()
    known = {first, *(bundle.golden[1].inputs["h0"][:, row : row + 1].tobytes() for row in range(3))}
    result = check_bits(
        spoiling(bundle, lambda feeds: len(feeds["x"]) == 1 and feeds["h0"].tobytes() not in known), bundle
    )

    assert (result.rows_bitwise, result.chunks_bitwise) == (True, False)


def test_a_value_that_is_not_finite_is_infinitely_far_off(bundles):
    class Silent(Spoiling):
        def run(self, feeds):
            found = self.runtime.run(feeds)
            return {name: array * np.float32("nan") for name, array in found.items()} if len(feeds["x"]) > 1 else found

    result = check_bits(Silent(open_runtime(bundles["steps"], device="cpu", threads=1), None), bundles["steps"])

    assert (result.rows_bitwise, result.largest) == (False, np.inf)


def test_network_that_is_not_streamable_is_not_cut(bundles):
    bundle = bundles["steps"]
    whole = replace(bundle, manifest=replace(bundle.manifest, streamable=False, bitwise_chunks=False))
    result = check_bits(spoiling(whole, lambda _: False), whole)

    assert (result.chunks, result.chunks_bitwise) == (0, None)


def test_no_run_has_a_zero_dimension_and_one_row_alone_is_nothing_to_compare(bundles):
    bundle = replace(bundles["steps"], golden=bundles["steps"].golden[:1])
    runtime = spoiling(bundle, lambda _: False)
    result = check_bits(runtime, bundle)

    assert (result.rows, result.rows_bitwise, result.chunks_bitwise, result.largest) == (0, None, None, 0.0)
    assert runtime.shapes == [(1, 1)]


def test_a_case_of_many_rows_is_looked_at_up_to_a_bound(bundles, make_network):
    network = make_network("steps")
    feeds = network.feeds(70, 2)
    case = GoldenCase(id="many", inputs=feeds, outputs=network.compute(feeds))
    bundle = replace(bundles["steps"], golden=(case,))

    assert check_bits(open_runtime(bundle, device="cpu", threads=1), bundle).rows == 64
