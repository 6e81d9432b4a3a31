import pytest

from cellgate.serve.errors import BadInput
from cellgate.serve.models.control_request import parse_control


@pytest.mark.parametrize(
    ("body", "version"),
    [
        (b"", None),
        (b" \n", None),
        (b"{}", None),
        (b'{"parameters": {}}', None),
        (b'{"parameters": null}', None),
        (b'{"parameters": {"unload_dependents": false}}', None),
        (b'{"parameters": {"version": 7}}', "7"),
        (b'{"parameters": {"version": "7"}}', "7"),
    ],
)
def test_the_version_is_read_where_there_is_one(body, version):
    assert parse_control(body) == version


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "body: expected nothing or a JSON object, found no JSON"),
        (b"[]", r"body: expected nothing or a JSON object, found \[\]"),
        (b'{"config": "{}"}', "body: expected no field but parameters, found 'config'"),
        (b'{"parameters": []}', r"parameters: expected a JSON object, found \[\]"),
        (b'{"parameters": [1]}', r"parameters: expected a JSON object, found \[1\]"),
        (b'{"parameters": {"version": 0}}', "parameters.version: expected a whole number from 1 on, found 0"),
        (b'{"parameters": {"version": true}}', "found True"),
        (b'{"parameters": {"version": "../1"}}', "found '../1'"),
        (b'{"parameters": {"version": "01"}}', "found '01'"),
        (b'{"parameters": {"version": 1.5}}', "found 1.5"),
        (b'{"parameters": {"config": "{}"}}', "parameters: expected none but version, found 'config'"),
        (b'{"parameters": {"file:1/model.onnx": "AAAA"}}', "found 'file:1/model.onnx'; bundles are loaded as they lie"),
    ],
)
def test_anything_else_is_refused_by_name(body, message):
    with pytest.raises(BadInput, match=message):
        parse_control(body)
