"""Whether the fields of a manifest go together: signature, tolerances, streams, variants, labels, normalisation.

Rules of this file: pure; each field is right for itself already (`manifest_json`).
"""

from .axes import fewer_steps
from .errors import ManifestError
from .manifest import VARIANT_FILES, Manifest
from .signature import check_signature


def check_coherence(manifest: Manifest) -> None:
    """Refuse fields that are right each for itself and contradict each other.

    Raises:
        ManifestError: they do; it names the field, what was expected and what was found.
    """
    check_signature(manifest.graph)
    outputs = {spec.name: spec for spec in manifest.graph.outputs}
    if manifest.tolerances.keys() != outputs.keys():
        _contradiction("tolerances", f"one for each of {', '.join(outputs)}", ", ".join(sorted(manifest.tolerances)))
    for name, tolerance in manifest.tolerances.items():
        if tolerance < 0:
            _contradiction(f"tolerances.{name}", "a number that is not negative", tolerance)
    if manifest.streamable and manifest.graph.least_steps > 1:
        _contradiction("streamable", "false where a chunk of one step is too short", manifest.streamable)
    if manifest.streamable and manifest.graph.most_steps is not None:
        _contradiction("streamable", "false where a sequence may be too long", manifest.streamable)
    steps = fewer_steps(manifest.graph.outputs[0].shape)
    if manifest.streamable and steps is not None:
        _contradiction("streamable", f"false where y has {steps} steps", manifest.streamable)
    if manifest.bitwise_chunks and not manifest.streamable:
        _contradiction("bitwise_chunks", "false where streamable is false", manifest.bitwise_chunks)
    _check_variants(manifest)
    if manifest.labels is not None and len(manifest.labels) != manifest.graph.outputs[0].shape[-1]:
        expected = f"{manifest.graph.outputs[0].shape[-1]} names, as y has classes"
        _contradiction("labels", expected, len(manifest.labels))
    _check_normalisation(manifest)


def _check_variants(manifest: Manifest) -> None:
    named = sorted(variant.file for variant in manifest.variants)
    held = sorted(manifest.files.keys() & VARIANT_FILES)
    if named != held:
        _contradiction("variants", f"one for each of the files {', '.join(held) or 'none'}", ", ".join(named) or "none")
    for index, variant in enumerate(manifest.variants):
        if variant.bitwise_chunks and not manifest.streamable:
            _contradiction(f"variants[{index}].bitwise_chunks", "false where streamable is false", True)


def _check_normalisation(manifest: Manifest) -> None:
    if manifest.normalisation is None:
        return
    sequence = next(spec for spec in manifest.graph.inputs if spec.name == manifest.graph.sequence)
    if manifest.graph.vocabulary_size is not None:
        _contradiction("normalisation", "null where the sequence is tokens", "an object")
    for name, values in manifest.normalisation.items():
        if len(values) != sequence.shape[-1]:
            _contradiction(f"normalisation.{name}", f"{sequence.shape[-1]} numbers", len(values))
    if min(manifest.normalisation["std"]) <= 0:
        _contradiction("normalisation.std", "positive numbers", min(manifest.normalisation["std"]))


def _contradiction(place: str, expected: str, found: object) -> None:
    raise ManifestError(f"manifest.json: {place}: expected {expected}, found {found}")
