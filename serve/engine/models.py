"""Models as the engine holds them: proved on this machine, and measured.

Rules of this file: it opens and closes; whatever fails, nothing stays open.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from ..errors import EngineError, with_cause
from ..models.served_model import (
    BundlePlace,
    ServedBundle,
    ServedModel,
    make_served_model,
    read_served_bundle,
    read_served_bundles,
)
from ..models.verification_state import read_verification_state
from ..runtime.cpus import usable_cpus
from ..runtime.device_choice import OpenRuntime, open_runtime
from ..runtime.golden_check import check_golden
from ..runtime.runtime import Runtime
from ..settings import Settings
from ..start_errors import GoldenMismatchError, MeasuringError, ServerStartError
from .calibrate import calibrate
from .cost_model import CostModel
from .lane_proof import keeps_states_on_device
from .measured import Measured, measured_on
from .plan import POOL_ROWS

# Several threads must be faster than one by this factor, for they take CPUs from the frontends.
_WORTH_MORE_THREADS = 1.3
_TYPICAL_ROWS, _TYPICAL_STEPS = 8, 32

# What is begun with a bundle, as a clause after "while": a runtime that takes the process down says nothing any more.
Tell = Callable[[ServedBundle, str], None]


def tell_nobody(_read: ServedBundle, _doing: str) -> None:
    """Say to nobody what is begun with a bundle."""


@dataclass(frozen=True, slots=True)
class EngineModel:
    """A served model with what runs it.

    Attributes:
        served: what the protocols know of it.
        runtime: open; whoever holds this record closes it.
        cost: measured on this machine; the engine refines it.
        device_lanes: whether lanes keep their states on the device, which was proved there.
        path: of the bundle's folder.
    """

    served: ServedModel
    runtime: Runtime
    cost: CostModel
    device_lanes: bool = False
    path: str = ""

    @property
    def measured(self) -> Measured | None:
        """What another process that opens the same bundle may go by, before the engine refines it; or None."""
        return measured_on(self.served.facts, self.cost)

    def plan_line(self, settings: Settings) -> str:
        """Return what the engine is going to do with this model, in words."""
        cost, manifest = self.cost, self.served.manifest
        lanes = max_rows_of(settings)
        costs = (
            f"a run costs {_us(cost.run_s)}, each step of a sequence {_us(cost.unit_s)}, or {_us(cost.step_s[1])} alone"
        )
        if manifest.streamable:
            limit = f"{settings.run_limit_s * 1e3:g} ms"
            how = f"up to {lanes} sequences side by side, in runs of at most {limit} between which they come and go"
        else:
            how = f"whole sequences, up to {lanes} of similar length side by side in a run"
        if manifest.graph.lengths is None:
            how += ", those of a run equally long"
        if self.device_lanes:
            how += ", states stay on the device"
        return f"{how}; {costs}"


def _us(seconds: float) -> str:
    """Return microseconds as exact as they were measured, which is not very."""
    us = seconds * 1e6
    return f"{us:.2g} us" if us < 10 else f"{us:,.0f} us"  # noqa: PLR2004 - where two digits are whole


def open_engine_models(
    places: Sequence[BundlePlace], settings: Settings, tell: Tell = tell_nobody
) -> list[EngineModel]:
    """Read every bundle, open its graph, run its golden cases, measure its costs; or close all and raise.

    Args:
        places: of the bundles.
        settings: of the server.
        tell: called before each thing that the runtime does with a bundle.

    Raises:
        BundleError: a bundle is damaged or none.
        ServerStartError: no bundle, two of one name, the device does not work, golden cases are not reproduced.
    """
    with ExitStack() as opened:
        models = [_open_model(read, settings, opened, tell) for read in read_served_bundles(places)]
        opened.pop_all()
    return models


def open_engine_model(
    read: ServedBundle, settings: Settings, tell: Tell = tell_nobody, measured: Measured | None = None
) -> EngineModel:
    """Do the same with one bundle that was read. May be called on a thread beside an engine that runs.

    Args:
        read: the bundle.
        settings: of the server.
        tell: called before each thing that the runtime does with it.
        measured: of the same bundle under the same settings by another process; None: it is measured here.

    Raises:
        ServerStartError: as `open_engine_models`.
    """
    with ExitStack() as opened:
        model = _open_model(read, settings, opened, tell, measured)
        opened.pop_all()
    return model


def open_proved(place: BundlePlace, settings: Settings) -> tuple[ServedModel, Runtime]:
    """Read one bundle, open its graph and run its golden cases, without an engine; the caller closes the runtime.

    Raises:
        BundleError, ServerStartError: as `open_engine_models`.
    """
    read = read_served_bundle(place)
    with ExitStack() as opened:
        runtime = _open(read, settings, settings.threads, opened)
        served = _prove(read, runtime)
        opened.pop_all()
    return served, runtime


def max_rows_of(settings: Settings) -> int:
    """Return the most rows of a run, and so the length of the table of its costs."""
    return min(settings.max_lanes, POOL_ROWS)


def _open_model(
    read: ServedBundle,
    settings: Settings,
    opened: ExitStack,
    tell: Tell,
    measured: Measured | None = None,
) -> EngineModel:
    least_steps = read.bundle.manifest.graph.least_steps
    if least_steps > settings.max_steps:
        expected = f"max-steps of at least {least_steps}, which the network needs"
        raise ServerStartError(f"model {read.name}: expected {expected}, found {settings.max_steps}")
    found = None if measured is None else _open_measured(read, settings, opened, measured)
    runtime, cost, device_lanes = found or _open_fastest(read, settings, opened, tell)
    tell(read, "its golden cases were run")
    return EngineModel(_prove(read, runtime), runtime, cost, device_lanes, str(read.bundle.path))


def _prove(read: ServedBundle, runtime: Runtime) -> ServedModel:
    golden = check_golden(runtime, read.bundle)
    if not golden.passed:
        raise GoldenMismatchError(read.name, golden.summary())
    return make_served_model(read, runtime.facts, golden, read_verification_state(read.bundle, runtime.facts))


def _open(read: ServedBundle, settings: Settings, threads: int | None, opened: ExitStack) -> OpenRuntime:
    runtime = open_runtime(
        read.bundle, device=settings.device, threads=threads, tf32=settings.tf32, kernels=settings.kernels
    )
    opened.callback(runtime.close)
    return runtime


def _open_measured(
    read: ServedBundle, settings: Settings, opened: ExitStack, measured: Measured
) -> tuple[OpenRuntime, CostModel, bool] | None:
    """Open with the threads that were found best elsewhere; None: it is another device by now."""
    runtime = _open(read, settings, measured.threads, opened)
    if measured.holds_for(runtime.facts):
        return runtime, measured.cost, False
    runtime.close()
    return None


def _open_fastest(
    read: ServedBundle, settings: Settings, opened: ExitStack, tell: Tell
) -> tuple[OpenRuntime, CostModel, bool]:
    """Open with one thread and with as many as there are CPUs, and keep what is faster; as told where told."""
    rows = max_rows_of(settings)
    tell(read, "its graph was opened")
    first = _open(read, settings, settings.threads or 1, opened)
    tell(read, "the time of its runs was measured")
    on_device = keeps_states_on_device(first, read.bundle)
    cost = _measure(first, read, rows, on_device=on_device)
    cpus = usable_cpus()
    if settings.threads is not None or cpus == 1 or first.device != "cpu":
        return first, cost, on_device
    second = _open(read, settings, cpus, opened)
    other = _measure(second, read, rows)
    cost.had_cpu = other.had_cpu = cost.had_cpu and other.had_cpu  # which one is kept hangs on both
    typical = min(_TYPICAL_ROWS, rows), _TYPICAL_STEPS
    if cost.seconds(*typical) < _WORTH_MORE_THREADS * other.seconds(*typical):
        second.close()
        return first, cost, False
    first.close()
    return second, other, False


def _measure(runtime: OpenRuntime, read: ServedBundle, rows: int, *, on_device: bool = False) -> CostModel:
    try:
        return calibrate(runtime, rows, on_device=on_device)
    except EngineError as err:  # its cause is the runtime's own words, which a process's border would drop
        raise MeasuringError(read.name, with_cause(err)) from err
