"""What an engine counts, as its tests look at it."""

NOTHING = {"inside": 0, "inside_bytes": 0}


def inside(engine):
    """What is in the engine now; all zeros where nothing is."""
    found = engine.statistics()
    now = {name: found["requests"][name] for name in NOTHING}
    for name, model in found["models"].items():
        now |= {f"{name}.{what}": model[what] for what in ("waiting_rows", "lanes", "slots")}
    return now


def is_empty(engine):
    return not any(inside(engine).values())


def counts(engine, *names):
    found = engine.statistics()["requests"]
    return tuple(found[name] for name in names)
