"""Whether a bundle was verified on the device and the runtime that serve it now, and by whom.

The export's own verification counts for the CPU with the onnxruntime that it used; `cellgate verify` leaves a record
for any device (`bundle.verification`).

Rules of this file: the judgement is pure; only `read_verification_state` reads, and what it cannot read is a finding,
not an error, for a bundle is served whether it was verified here or not.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...bundle.errors import VerificationError
from ...bundle.manifest import Manifest
from ...bundle.reader import Bundle
from ...bundle.verification import read_verifications
from ..runtime.placement import OWN_KERNELS
from ..runtime.runtime import RuntimeFacts

_WHEELS = ("onnxruntime", "onnxruntime-gpu")
_WITH = {True: "with", False: "without"}


@dataclass(frozen=True, kw_only=True, slots=True)
class VerificationState:
    """What is known of a bundle on this device.

    Attributes:
        holds: verified on this kind of device, with this version of the runtime and this precision, and passed.
        statement: the same in words, with the remedy where it does not hold.
    """

    holds: bool
    statement: str


NOT_ASKED = VerificationState(holds=False, statement="nobody looked whether it was verified on this device")


def read_verification_state(bundle: Bundle, facts: RuntimeFacts) -> VerificationState:
    """Read the records beside a bundle and judge."""
    try:
        records = read_verifications(bundle)
    except VerificationError as err:
        return VerificationState(holds=False, statement=f"its records cannot be read ({err})")
    return judge_verification(bundle.manifest, records, facts, f"cellgate verify {bundle.path} --device {facts.device}")


def judge_verification(
    manifest: Manifest, records: Mapping[str, Mapping[str, Any]], facts: RuntimeFacts, remedy: str
) -> VerificationState:
    """Judge by what was found at export and since.

    Args:
        manifest: its tools say with which runtime the export verified.
        records: of exactly this bundle, by device.
        facts: of the runtime that serves it.
        remedy: the command that verifies it here.
    """
    record = records.get(facts.device)
    if record is not None and (doubt := _doubt(record, facts)) is None:
        return VerificationState(holds=True, statement=_confirmed(record, facts))
    exported = [manifest.tools[wheel] for wheel in _WHEELS if wheel in manifest.tools]
    if facts.device == "cpu" and (record is None or record.get("passed") is True):
        if facts.version in exported:
            return VerificationState(holds=True, statement=f"at export, on cpu with onnxruntime {facts.version}")
        if exported and record is None:
            doubt = f"verified at export with onnxruntime {exported[0]}, found {facts.version} here"
            return VerificationState(holds=False, statement=f"{doubt}; run: {remedy}")
    words = f"never verified on {facts.device}" if record is None else doubt
    return VerificationState(holds=False, statement=f"{words}; run: {remedy}")


def _doubt(record: Mapping[str, Any], facts: RuntimeFacts) -> str | None:
    """Return why a record does not hold here, or None."""
    if record.get("passed") is not True:
        return f"its golden cases were not reproduced on {facts.device} when it was verified"
    for key, word, here in (("onnxruntime", "onnxruntime", facts.version), ("precision", "precision", facts.precision)):
        if record.get(key) != here:
            return f"verified on {facts.device} with {word} {record.get(key)}, found {here} here"
    ran, runs = (OWN_KERNELS in dict(counts) for counts in (_counts(record), facts.placement.counts))
    if ran != runs:
        return f"verified on {facts.device} {_WITH[ran]} cellgate's own kernels, {_WITH[runs]} them here"
    return None


def _counts(record: Mapping[str, Any]) -> list[tuple[str, int]]:
    placement = record.get("placement")
    return [] if placement is None else placement["counts"]


def _confirmed(record: Mapping[str, Any], facts: RuntimeFacts) -> str:
    name = record.get("device_name")
    where = f"{facts.device} ({name})" if name else facts.device
    return f"on {where} with onnxruntime {facts.version}, {record.get('checked_at', 'at an unknown time')}"
