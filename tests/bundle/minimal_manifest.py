"""The smallest manifest, whose bytes are pinned."""

from cellgate.bundle.manifest import FileEntry, GraphSignature, Manifest, SessionOptions, TensorSpec

FILES = {
    name: FileEntry(size_bytes=size, sha256=digit * 64)
    for name, size, digit in [
        ("model.onnx", 10, "a"),
        ("golden.safetensors", 20, "b"),
        ("equivalence.json", 30, "c"),
        ("equivalence.html", 40, "d"),
    ]
}


def minimal():
    return Manifest(
        name="words",
        version=3,
        network={"note": "Größe"},
        graph=GraphSignature(
            inputs=(TensorSpec(name="tokens", dtype="int64", shape=("B", "T")),),
            outputs=(TensorSpec(name="y", dtype="float32", shape=("B", 2)),),
            sequence="tokens",
            lengths=None,
            vocabulary_size=7,
        ),
        opset=21,
        operators=("Gather", "LSTM"),
        streamable=False,
        bitwise_rows=True,
        bitwise_chunks=False,
        precision="float32",
        tolerances={"y": 1.5e-6},
        session=SessionOptions(config={"session.intra_op.allow_spinning": "0"}),
        tools={"cellgate": "0.1.0", "torch": "2.13.0"},
        files=FILES,
        labels=("no", "yes"),
    )
