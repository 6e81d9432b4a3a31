"""State that the client carries: it comes back bit for bit, and nobody without the key makes, bends or crosses one."""

import base64
import hashlib
import hmac

import numpy as np
import pytest

from cellgate.serve.errors import BadInput
from cellgate.serve.start_errors import ServerStartError
from cellgate.serve.stream_errors import ModelChanged, StreamExpired
from cellgate.serve.streams.carried_state import read_state, read_state_keys, sign_state
from cellgate.serve.streams.served_streams import ServedStreams

KEYS = (b"k" * 32, b"old" * 10)
NOW_S = 1e9


@pytest.fixture
def served(served_models):
    return ServedStreams.of(served_models["steps"])


@pytest.fixture
def states():
    return tuple(np.random.default_rng(place).normal(size=(1, 2, 3)).astype(np.float32) for place in range(2))


@pytest.fixture
def sign(served, states):
    def make(keys=KEYS, model="steps", **changes):
        fields = {"step": 3, "states": states, "rows": 2, "now_s": NOW_S, **changes}
        return sign_state(keys, model, served, **fields)

    return make


@pytest.fixture
def read(served):
    def call(text, keys=KEYS, model="steps", of=served, **changes):
        return read_state(keys, model, of, text, **{"rows": 2, "now_s": NOW_S, "idle_s": 60.0, **changes})

    return call


def test_a_state_comes_back_with_its_step_and_bits(sign, read, states):
    found = read(sign())

    assert (found.step, found.rows) == (3, 2)
    assert [state.tobytes() for state in found.states] == [state.tobytes() for state in states]


def test_the_first_key_signs_and_all_are_believed(sign, read):
    assert read(sign(keys=KEYS[1:])).step == 3
    with pytest.raises(BadInput, match="or one with its key, gave, found another"):
        read(sign(keys=(b"x" * 32,)))
    with pytest.raises(BadInput):
        read(sign(), keys=KEYS[1:])


def test_the_signature_is_that_of_the_standard_over_model_and_record(sign):
    data = base64.b64decode(sign())

    assert hmac.digest(KEYS[0], b"cellgate-state-1\0steps\0" + data[32:], hashlib.sha256) == data[:32]


def test_every_flipped_bit_and_every_cut_is_refused(sign, read):
    data = base64.b64decode(sign())
    for place in range(0, len(data) * 8, 7):
        changed = bytearray(data)
        changed[place // 8] ^= 1 << place % 8
        with pytest.raises(BadInput):
            read(base64.b64encode(changed).decode())
    for size in range(0, len(data), 5):
        with pytest.raises(BadInput):
            read(base64.b64encode(data[:size]).decode())


@pytest.mark.parametrize("text", ["", "====", "no base64!", "ä" * 40, "QQ=="])
def test_text_that_is_no_state_is_refused(read, text):
    with pytest.raises(BadInput, match="sequence_state"):
        read(text)


def test_states_cross_no_model_no_bundle_no_time_and_no_rows(sign, read, served_models):
    with pytest.raises(BadInput):
        read(sign(), model="last")
    with pytest.raises(ModelChanged, match=r"sequence_state: expected it to go on with the bundle .* begin the stream"):
        read(sign(), of=ServedStreams.of(served_models["last"]))
    with pytest.raises(StreamExpired, match=r"^sequence_state: expected a live stream, found that it was idle"):
        read(sign(), now_s=NOW_S + 60.0)
    with pytest.raises(BadInput, match="expected the 2 rows of sequence_state, found 3"):
        read(sign(), rows=3)
    with pytest.raises(BadInput, match="finite states of this model"):
        read(sign(states=(np.full((1, 2, 3), np.nan, np.float32),) * 2))
    with pytest.raises(BadInput, match="finite states of this model"):
        read(sign(states=(np.ones((1, 2, 4), np.float32),) * 2))


def test_a_signed_record_of_another_layout_is_refused(served, read):
    body = b"CGSR\x09\0" + bytes(200)
    mac = hmac.digest(KEYS[0], b"cellgate-state-1\0steps\0" + body, hashlib.sha256)

    with pytest.raises(BadInput, match="a state of this version"):
        read(base64.b64encode(mac + body).decode())


def test_keys_are_lines_of_a_file(tmp_path):
    path = tmp_path / "keys"
    path.write_bytes(b"a" * 16 + b"\n\n " + b"b" * 64 + b" \n")
    assert read_state_keys(path) == (b"a" * 16, b"b" * 64)
    for text in (b"", b"\n", b"short\n", b"a" * 16 + b"\nshort"):
        path.write_bytes(text)
        with pytest.raises(ServerStartError, match="openssl rand -hex 32 makes one"):
            read_state_keys(path)
    with pytest.raises(ServerStartError, match="expected a file of keys, found: No such file"):
        read_state_keys(tmp_path / "none")
