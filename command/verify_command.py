"""`cellgate verify`: a bundle's golden cases on this machine's device, or its graph against the network once more.

Rules of this file: no torch; the comparison with a source is source_check's, loaded only when it is asked for.
"""

import argparse
import math
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .. import __version__
from ..bundle.reader import Bundle, read_bundle
from ..bundle.verification import write_verification
from ..serve.runtime.bits_check import BitsResult, check_bits
from ..serve.runtime.device_choice import open_runtime
from ..serve.runtime.device_facts import DeviceFacts, device_facts
from ..serve.runtime.golden_check import GoldenResult, check_golden
from ..serve.runtime.runtime import RuntimeFacts
from .errors import CHECK_FAILED, DONE, UsageError
from .extras import load
from .output_place import refuse_inside_bundle
from .terminal import Terminal, finite

_UNKNOWN_DEVICE = DeviceFacts(name=None, driver=None)
_ONLY_WITH_SOURCE = ("weights", "gate_order", "argument", "input_dim", "columns", "answer", "case", "report")


def run(arguments: argparse.Namespace) -> int:
    """Verify; 1 where the check fails.

    Raises:
        UsageError: options that do not go together.
        BundleError, ServeError: the bundle is damaged, or the device does not work.
    """
    if arguments.source is not None:
        if arguments.device == "cuda":
            raise UsageError("--source compares on the CPU, expected no --device cuda; leave one of them out")
        if arguments.tf32:
            raise UsageError("--source compares on the CPU, expected no --tf32; leave one of them out")
        if arguments.report is not None:
            refuse_inside_bundle("--report", Path(arguments.report), is_filled=True)
        status: int = load(f"{__package__}.source_check", "verify --source").run(arguments)
        return status
    for name in _ONLY_WITH_SOURCE:
        if getattr(arguments, name):
            raise UsageError(f"--{name.replace('_', '-')} goes with --source, expected both or neither; give --source")
    terminal = Terminal(json=arguments.json)
    bundle = read_bundle(Path(arguments.bundle))
    runtime = open_runtime(
        bundle,
        device=arguments.device,
        threads=arguments.threads,
        tf32=arguments.tf32,
        kernels=arguments.kernels,
    )
    try:
        result = check_golden(runtime, bundle)
        bits = None if result.problems else check_bits(runtime, bundle)
    finally:
        runtime.close()
    record = make_record(result, runtime.facts, bits, device_facts(runtime.device, arguments.environ))
    written = None if arguments.no_record else _write(bundle, runtime.device, record)
    for note in runtime.facts.notes:
        terminal.warn(note)
    _print(bundle, result, runtime.facts, record, written, terminal)
    terminal.answer(
        {"bundle": str(bundle.path), "digest": bundle.digest, "device": runtime.device, **record, "record": written}
    )
    if not result.passed:
        terminal.note(
            f"{arguments.bundle}: expected the golden cases to be reproduced on {runtime.device}, found "
            f"{result.summary()}; try another --device, or export again with the versions of this machine"
        )
    return DONE if result.passed else CHECK_FAILED


def make_record(
    result: GoldenResult,
    facts: RuntimeFacts,
    bits: BitsResult | None = None,
    device: DeviceFacts = _UNKNOWN_DEVICE,
) -> dict[str, Any]:
    """Return what BUNDLE.verified/DEVICE.json says: plain JSON, infinite errors as "inf".

    Args:
        result: of the golden cases.
        facts: of the runtime.
        bits: whether rows and chunks gave the same bits; None where that was not asked, for the runs failed already.
        device: its name and driver.
    """
    content: Mapping[str, Any] = {
        "passed": result.passed,
        "cases": result.cases,
        "outputs": [asdict(output) for output in result.outputs],
        "problems": result.problems,
        "bits": None if bits is None else asdict(bits),
        "device_name": device.name,
        "driver": device.driver,
        "provider": facts.provider,
        "precision": facts.precision,
        "graph": facts.graph,
        "placement": asdict(facts.placement),
        "onnxruntime": facts.version,
        "threads": facts.threads,
        "cellgate": __version__,
        "checked_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    plain: dict[str, Any] = finite(dict(content))
    return plain


def _write(bundle: Bundle, device: str, record: Mapping[str, Any]) -> str:
    try:
        return str(write_verification(bundle, device, record))
    except OSError as err:
        raise UsageError(
            f"{bundle.path}.verified: expected to write the record there, found: {(err.strerror or str(err)).lower()}; "
            "give --no-record where the place is read-only"
        ) from err


def _print(
    bundle: Bundle,
    result: GoldenResult,
    facts: RuntimeFacts,
    record: Mapping[str, Any],
    written: str | None,
    terminal: Terminal,
) -> None:
    name = f"{bundle.manifest.name} version {bundle.manifest.version}"
    word = "reproduced" if result.passed else "NOT reproduced"
    terminal.say(f"{name}: {result.cases} golden cases {word} on {facts.device}")
    terminal.say()
    rows = [
        (
            output.output,
            output.worst,
            output.tolerance,
            f"{output.worst / output.tolerance:.0%}" if output.tolerance and math.isfinite(output.worst) else "",
            output.case_id or "",
            "yes" if output.passed else "no",
        )
        for output in result.outputs
    ]
    terminal.table(("output", "largest error", "allowed", "share", "case", "passed"), rows)
    for problem in result.problems:
        terminal.say(f"problem   {problem}")
    threads = f"{facts.threads} thread{'s'[: facts.threads > 1]}"
    terminal.pairs(
        [
            ("device", f"{facts.device} ({facts.provider}; {facts.reason}), {record['device_name'] or 'name unknown'}"),
            ("runtime", f"onnxruntime {facts.version}, {threads}, {facts.precision}"),
            ("graph", f"{facts.graph}, {facts.placement.line()}"),
            ("bits", _bits_words(record["bits"])),
            ("digest", bundle.digest),
            ("record", written or "not written"),
        ]
    )


def _bits_words(bits: Mapping[str, Any] | None) -> str:
    if bits is None:
        return "not asked, for golden cases did not run"
    words = {True: "yes", False: "no", None: "nothing to compare"}
    return (
        f"a row alone and in its batch: {words[bits['rows_bitwise']]}; in one pass and in two chunks: "
        f"{words[bits['chunks_bitwise']]} (largest difference {bits['largest']})"
    )
