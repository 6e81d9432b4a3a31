"""How layers of all sizes lie on a GPU: the rules that the CUDA source counts on."""

import pytest

from cellgate.serve.kernel.kernel_plan import plan_kernel

H100, SHARED_BYTES = 132, 232_448


@pytest.mark.parametrize("first", range(1, 1025, 128))
def test_every_layer_up_to_1024_fits_an_h100(first):
    for hidden in range(first, first + 128):
        plan = plan_kernel(hidden, H100)

        assert plan.units * plan.members >= hidden > plan.units * (plan.members - 2), hidden
        assert plan.units % 8 == 0, hidden
        assert plan.segments % 4 == 0, hidden
        assert plan.padded >= hidden, hidden
        assert plan.padded % (4 * plan.segments) == 0, hidden
        assert plan.threads == plan.units * plan.segments <= 512, hidden
        assert plan.threads % 32 == 0, hidden
        assert 1 <= plan.tile * plan.units <= plan.threads, hidden
        assert plan.padded // plan.segments <= 16, hidden  # so that a thread's weights take 64 registers at the most
        assert plan.members <= H100, hidden


@pytest.mark.parametrize("hidden", [1, 40, 64, 100, 128, 256, 300, 512, 777, 1024])
@pytest.mark.parametrize("rows", [1, 5, 64, 131, 132, 133, 1000])
def test_rows_within_the_most_fit_the_shared_memory(hidden, rows):
    plan = plan_kernel(hidden, H100)
    most = plan.most_rows(H100, SHARED_BYTES)
    rows = min(rows, most)
    groups = plan.groups(rows, H100)

    assert most >= 1000
    assert 1 <= groups * plan.members <= H100
    assert plan.shared_bytes(-(-rows // groups)) <= SHARED_BYTES
    assert plan.shared_bytes(-(-most // plan.groups(most, H100))) <= SHARED_BYTES


@pytest.mark.parametrize(("hidden", "multiprocessors"), [(1025, 132), (4096, 1000), (1024, 108), (64, 0)])
def test_layer_that_does_not_fit_has_no_plan(hidden, multiprocessors):
    assert plan_kernel(hidden, multiprocessors) is None


def test_few_rows_go_word_by_word_and_many_meet():
    plan = plan_kernel(256, H100)

    assert plan.few(plan.tile)
    assert not plan.few(plan.tile + 1)
    assert set(plan.macros()) == {"HIDDEN", "PADDED", "SEGMENTS", "UNITS", "MEMBERS", "TILE", "THREADS"}
