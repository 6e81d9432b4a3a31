"""Which run is next: several models, priorities, and runs that are held for who may still come."""


def test_model_whose_leader_is_due_first_runs_first(make_runtime, make_model, make_engine, make_work):
    long, short = make_runtime(), make_runtime()
    engine, clock = make_engine(make_model(long, name="long"), make_model(short, name="short"))

    engine.submit(1, make_work(10_000, model="long"))
    clock.now += 1e-6
    engine.submit(2, make_work(1, model="short"))
    engine.run_once()

    assert (long.runs, short.runs) == (0, 1)


def test_no_model_starves_beside_one_that_is_always_busy(make_runtime, make_model, make_engine, make_work, make_clock):
    clock, cost_s = make_clock(), 1e-3
    busy, other = make_runtime(), make_runtime()
    busy.fault = other.fault = lambda feeds: setattr(clock, "now", clock.now + cost_s)
    engine, _ = make_engine(make_model(busy, name="busy"), make_model(other, name="other"), clock=clock)
    engine.submit("it", make_work(100, model="other"))
    due_s = 8.0 * 100 * engine.models[1].cost.unit_s  # after its arrival

    waited = 0
    while True:
        engine.submit(waited, make_work(1, model="busy"))
        waited += 1
        if "it" in dict(engine.run_once()):
            break
        assert waited <= due_s / cost_s + 2


def test_models_take_turns_by_the_time_of_arrival(make_runtime, make_model, make_engine, make_work, drain):
    runtimes = {name: make_runtime() for name in "abc"}
    engine, clock = make_engine(*(make_model(runtime, name=name) for name, runtime in runtimes.items()), max_lanes=1)
    for ticket, name in enumerate("cabbca"):
        clock.now += 1.0
        engine.submit((ticket, name), make_work(2, model=name))

    order = [ticket[1] for ticket, _ in drain(engine, clock)]

    assert order == list("cabbca")


def test_higher_priority_goes_first_and_equal_ones_by_arrival(make_engine, make_work, drain):
    engine, clock = make_engine(max_lanes=1)
    for ticket, priority in (("a", 0), ("b", 0), ("c", 2), ("d", 1)):
        clock.now += 1e-3
        engine.submit(ticket, make_work(3, priority=priority))

    order = [ticket for ticket, _ in drain(engine, clock)]

    assert order == ["c", "d", "a", "b"]


def test_run_that_is_held_runs_when_its_moment_has_come_even_where_nobody_came(
    make_runtime, make_model, make_engine, make_work
):
    runtime = make_runtime(remembers=False)
    engine, clock = make_engine(make_model(runtime))
    for ticket in range(300):  # arrivals near each other, so that waiting for the next may pay
        engine.submit(ticket, make_work(100))
        clock.now += 1e-5
        engine.run_once()
    while engine.wait_s() is not None:
        clock.now += engine.wait_s()
        engine.run_once()
    engine.submit("last", make_work(100))

    wait_s = engine.wait_s()
    runs = runtime.runs
    assert engine.run_once() == []
    assert 0 < wait_s <= 0.1 * engine.models[0].cost.seconds(1, 100)
    assert runtime.runs == runs
    clock.now += wait_s
    assert [ticket for ticket, _ in engine.run_once()] == ["last"]
    assert engine.statistics()["models"]["sum"]["holds"] > 0
