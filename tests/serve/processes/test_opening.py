"""What deaths of an engine mean that is not ready yet."""

from cellgate.serve.processes.opening import MOST_DEATHS, Opening, Stage, without_retired

ONE, OTHER = Stage("b/one", "1" * 64, "its graph was opened"), Stage("b/other", "2" * 64, "its golden cases were run")


def die(opening, *stages, status=-6):
    opening.begin()
    for stage in stages:
        opening.hear(stage)
    return opening.died(status)


def test_a_death_is_told_with_the_bundle_the_signal_and_what_was_done():
    assert str(die(Opening(), OTHER, ONE)) == (
        "bundle b/one: expected the engine's process to live, found that it died by signal 6 (SIGABRT) while its graph "
        "was opened; look at it with: cellgate verify b/one, and serve without it"
    )
    assert "died by signal 9 (SIGKILL, as where memory runs out) while" in str(die(Opening(), ONE, status=-9))
    assert "died by exit code 3 while" in str(die(Opening(), ONE, status=3))
    assert "died by signal 35 (one that has no name) while" in str(die(Opening(), ONE, status=-35))


def test_a_death_before_any_bundle_is_nobodys():
    opening = Opening()
    for _ in range(MOST_DEATHS + 1):
        assert die(opening) is None

    assert opening.hopeless is None


def test_a_bundle_is_hopeless_when_so_many_engines_in_a_row_have_died_of_it():
    opening, found = Opening(), []
    for _ in range(MOST_DEATHS):
        found.append(opening.hopeless)
        die(opening, OTHER, ONE)

    assert found == [None] * MOST_DEATHS
    assert opening.hopeless == ONE.digest


def test_deaths_of_several_bundles_make_none_of_them_hopeless():
    opening = Opening()
    for stage in (ONE, OTHER) * MOST_DEATHS:
        die(opening, stage)

    assert opening.hopeless is None


def test_only_a_bundle_that_was_replaced_can_be_left_out():
    models = [{"digest": ONE.digest, "is_current": True}, {"digest": OTHER.digest, "is_current": False}]
    hello = {"names": ["a"], "models": models}

    assert without_retired(hello, ONE.digest) is None
    assert without_retired(hello, OTHER.digest) == {"names": ["a"], "models": models[:1]}
