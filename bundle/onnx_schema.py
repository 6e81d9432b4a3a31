"""The fields of ONNX messages by number: those read here by name, the others as known.

A field that is not in these tables is one that this reader does not understand and the runtime might: serving refuses
it.
Source: onnx.proto of ONNX 1.23 (IR version 14), https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from types import MappingProxyType

from .wire import Kind, Schema


def _schema(*skipped: int, **wanted: tuple[int, Kind]) -> Schema:
    fields = {number: (name, kind) for name, (number, kind) in wanted.items()}
    return MappingProxyType(fields | dict.fromkeys(skipped, ("", Kind.SKIP)))


MODEL = _schema(
    4, 5, 6,  # domain, model_version, doc_string
    ir_version=(1, Kind.NUMBER),
    producer_name=(2, Kind.SPAN),
    producer_version=(3, Kind.SPAN),
    graph=(7, Kind.SPAN),
    opset_import=(8, Kind.SPANS),
    metadata_props=(14, Kind.SPANS),
    training_info=(20, Kind.SPANS),
    functions=(25, Kind.SPANS),
)  # fmt: skip
OPSET = _schema(domain=(1, Kind.SPAN), version=(2, Kind.NUMBER))
PROPERTY = _schema(key=(1, Kind.SPAN), value=(2, Kind.SPAN))
FUNCTION = _schema(4, 5, 6, 7, 8, 9, 11, 12, 13, 14, name=(1, Kind.SPAN), domain=(10, Kind.SPAN))
GRAPH = _schema(
    2, 10, 13, 14, 16,  # name, doc_string, value_info, quantization_annotation, metadata_props
    node=(1, Kind.SPANS),
    initializer=(5, Kind.SPANS),
    input=(11, Kind.SPANS),
    output=(12, Kind.SPANS),
    sparse_initializer=(15, Kind.SPANS),
)  # fmt: skip
NODE = _schema(
    6, 8, 9,  # doc_string, overload, metadata_props
    input=(1, Kind.SPANS),
    output=(2, Kind.SPANS),
    name=(3, Kind.SPAN),
    op_type=(4, Kind.SPAN),
    attribute=(5, Kind.SPANS),
    domain=(7, Kind.SPAN),
)  # fmt: skip
ATTRIBUTE = _schema(
    2, 7, 8, 9, 13, 14, 15, 20,  # f, floats, ints, strings, doc_string, tp, type_protos, type
    name=(1, Kind.SPAN),
    i=(3, Kind.NUMBER),
    s=(4, Kind.SPAN),
    t=(5, Kind.SPAN),
    g=(6, Kind.SPAN),
    tensors=(10, Kind.SPANS),
    graphs=(11, Kind.SPANS),
    ref_attr_name=(21, Kind.SPAN),
    sparse_tensor=(22, Kind.SPAN),
    sparse_tensors=(23, Kind.SPANS),
)  # fmt: skip
TENSOR = _schema(
    4, 5, 6, 7, 10, 11, 12, 16,  # float, int32, string, int64, double and uint64 data, doc_string, metadata_props
    dims=(1, Kind.NUMBERS),
    data_type=(2, Kind.NUMBER),
    segment=(3, Kind.SPAN),
    name=(8, Kind.SPAN),
    raw_data=(9, Kind.SPAN),
    external_data=(13, Kind.SPANS),
    data_location=(14, Kind.NUMBER),
)  # fmt: skip
VALUE = _schema(3, 4, name=(1, Kind.SPAN), type=(2, Kind.SPAN))
TYPE = _schema(
    6,  # denotation
    tensor=(1, Kind.SPAN),
    sequence=(4, Kind.SPAN),
    map=(5, Kind.SPAN),
    opaque=(7, Kind.SPAN),
    sparse_tensor=(8, Kind.SPAN),
    optional=(9, Kind.SPAN),
)  # fmt: skip
TENSOR_TYPE = _schema(elem_type=(1, Kind.NUMBER), shape=(2, Kind.SPAN))
SHAPE = _schema(dim=(1, Kind.SPANS))
DIMENSION = _schema(3, dim_value=(1, Kind.NUMBER), dim_param=(2, Kind.SPAN))

# TensorProto.DataType: name as NumPy or ONNX call it, and bytes an element (0: packed or of no fixed size).
DTYPES = MappingProxyType(
    {
        1: ("float32", 4), 2: ("uint8", 1), 3: ("int8", 1), 4: ("uint16", 2), 5: ("int16", 2), 6: ("int32", 4),
        7: ("int64", 8), 8: ("string", 0), 9: ("bool", 1), 10: ("float16", 2), 11: ("float64", 8), 12: ("uint32", 4),
        13: ("uint64", 8), 14: ("complex64", 8), 15: ("complex128", 16), 16: ("bfloat16", 2), 17: ("float8e4m3fn", 1),
        18: ("float8e4m3fnuz", 1), 19: ("float8e5m2", 1), 20: ("float8e5m2fnuz", 1), 21: ("uint4", 0), 22: ("int4", 0),
        23: ("float4e2m1", 0), 24: ("float8e8m0", 1), 25: ("uint2", 0), 26: ("int2", 0),
        27: ("float6e2m3", 0), 28: ("float6e3m2", 0),
    }
)  # fmt: skip
