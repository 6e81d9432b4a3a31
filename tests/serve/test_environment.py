"""Settings as environment variables say them."""

from dataclasses import fields

import pytest

from cellgate.serve.environment import misspelt_variables, settings_from_env
from cellgate.serve.settings import PREFIX, Settings, SettingsError

# Every setting once: as the environment says it, and what is to be made of it.
ENVIRONMENT = {
    "CELLGATE_HOST": "0.0.0.0",
    "CELLGATE_PORT": "9000",
    "CELLGATE_GRPC": "no",
    "CELLGATE_GRPC_PORT": "9009",
    "CELLGATE_CONTROL": "1",
    "CELLGATE_CONTROL_PORT": "9010",
    "CELLGATE_REPOSITORY": "bundles",
    "CELLGATE_DEVICE": "cpu",
    "CELLGATE_TF32": "1",
    "CELLGATE_KERNELS": "0",
    "CELLGATE_THREADS": "3",
    "CELLGATE_WORKERS": "4",
    "CELLGATE_MAX_LANES": "10",
    "CELLGATE_RUN_LIMIT_S": "0.5",
    "CELLGATE_MAX_WAITING_BYTES": "1048576",
    "CELLGATE_HOT_ROUTE": "false",
    "CELLGATE_MAX_WAITING": "5",
    "CELLGATE_MAX_BODY_BYTES": "4096",
    "CELLGATE_MAX_BATCH_ROWS": "6",
    "CELLGATE_MAX_STEPS": "7",
    "CELLGATE_MAX_ROW_STEPS": "8",
    "CELLGATE_MAX_ANSWER_ELEMENTS": "9",
    "CELLGATE_KEEP_ALIVE_S": "1.5",
    "CELLGATE_SHUTDOWN_GRACE_S": "2",
    "CELLGATE_ENGINE_HANG_S": "3.5",
    "CELLGATE_TRIAL_LIMIT_S": "7.5",
    "CELLGATE_ACCESS_LOG": "Yes",
    "CELLGATE_EXAMPLE_REQUEST_PATH": "request.json",
    "CELLGATE_METRICS": "no",
    "CELLGATE_LOG_FORMAT": "json",
    "CELLGATE_OTEL_ENDPOINT": "http://collector:4318/v1/traces",
    "CELLGATE_API_KEYS_FILE": "keys",
    "CELLGATE_OPEN_PATHS": "health,metrics",
    "CELLGATE_ALLOWED_HOSTS": "models.example",
    "CELLGATE_CORS_ORIGINS": "https://page.example",
    "CELLGATE_TLS_CERT": "cert.pem",
    "CELLGATE_TLS_KEY": "key.pem",
    "CELLGATE_MAX_HEAD_BYTES": "2048",
    "CELLGATE_MAX_HEADERS": "10",
    "CELLGATE_MAX_CHUNKS": "11",
    "CELLGATE_MAX_JSON_ELEMENTS": "2000",
    "CELLGATE_MAX_CONNECTIONS": "12",
    "CELLGATE_HEAD_TIMEOUT_S": "1.5",
    "CELLGATE_BODY_TIMEOUT_S": "2.5",
    "CELLGATE_STREAM_STORE": "sqlite:/var/lib/streams",
    "CELLGATE_STATE_KEYS_PATH": "keys",
    "CELLGATE_STREAM_IDLE_S": "10",
    "CELLGATE_STREAM_TOMBSTONE_S": "11",
    "CELLGATE_MAX_STREAMS": "12",
    "CELLGATE_MAX_STREAM_BYTES": "65536",
}
SETTINGS = Settings(
    host="0.0.0.0",
    port=9000,
    grpc=False,
    grpc_port=9009,
    control=True,
    control_port=9010,
    repository="bundles",
    device="cpu",
    tf32=True,
    kernels=False,
    threads=3,
    workers=4,
    max_lanes=10,
    run_limit_s=0.5,
    max_waiting_bytes=1048576,
    hot_route=False,
    max_waiting=5,
    max_body_bytes=4096,
    max_batch_rows=6,
    max_steps=7,
    max_row_steps=8,
    max_answer_elements=9,
    keep_alive_s=1.5,
    shutdown_grace_s=2.0,
    engine_hang_s=3.5,
    trial_limit_s=7.5,
    access_log=True,
    example_request_path="request.json",
    metrics=False,
    log_format="json",
    otel_endpoint="http://collector:4318/v1/traces",
    api_keys_file="keys",
    open_paths="health,metrics",
    allowed_hosts="models.example",
    cors_origins="https://page.example",
    tls_cert="cert.pem",
    tls_key="key.pem",
    max_head_bytes=2048,
    max_headers=10,
    max_chunks=11,
    max_json_elements=2000,
    max_connections=12,
    head_timeout_s=1.5,
    body_timeout_s=2.5,
    stream_store="sqlite:/var/lib/streams",
    state_keys_path="keys",
    stream_idle_s=10.0,
    stream_tombstone_s=11.0,
    max_streams=12,
    max_stream_bytes=65536,
)


def test_environment_sets_every_setting():
    assert ENVIRONMENT.keys() == {PREFIX + field.name.upper() for field in fields(Settings)}

    assert settings_from_env({**ENVIRONMENT, "PATH": "/bin"}) == SETTINGS


def test_given_values_overrule_the_environment_and_empty_ones_do_not_count():
    found = settings_from_env({"CELLGATE_PORT": "9000", "CELLGATE_HOST": ""}, port=1, device=None)

    assert found == Settings(port=1)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("CELLGATE_PORT", "eighty", "port .*: expected a number in 0 .. 65535, found 'eighty'"),
        ("CELLGATE_ACCESS_LOG", "maybe", "access_log .*: expected true or false, found 'maybe'"),
        ("CELLGATE_DEVICE", "tpu", "found 'tpu'"),
    ],
)
def test_environment_of_a_wrong_form_is_refused_by_name(name, text, message):
    with pytest.raises(SettingsError, match=message):
        settings_from_env({name: text})


@pytest.mark.parametrize(
    "name", ["WORKER", "API_KEY_FILE", "GRCP_PORT", "MAX_BODY_BYTE", "HOSTS", "PROT", "PRT", "POORT", "GPRC", "TF23"]
)
def test_a_misspelt_variable_is_told_with_the_setting_that_was_meant(name):
    (told,) = misspelt_variables({PREFIX + name: "1", "WORKER": "1"})

    assert told.startswith(f"{PREFIX}{name} is no setting; {PREFIX}")


def test_one_slip_tells_the_setting_and_not_one_that_looks_more_alike():
    assert misspelt_variables({"CELLGATE_PROT": "1"}) == ["CELLGATE_PROT is no setting; CELLGATE_PORT is one"]


def test_names_that_the_caller_reads_are_settings_to_it():
    assert misspelt_variables({"CELLGATE_DURABLE": "1"}, ["durable"]) == []
    (told,) = misspelt_variables({"CELLGATE_DURABEL": "1"}, ["durable"])
    assert told == "CELLGATE_DURABEL is no setting; CELLGATE_DURABLE is one"


@pytest.mark.parametrize(
    "name",
    # other parts of cellgate, docker-compose's variables, and what Kubernetes makes for a Service
    [
        "WORKERS",
        "API_KEY",
        "DEBUG",
        "BUNDLE",
        "GPU_PORT",
        "GPU_GRPC_PORT",
        "SERVICE_PORT",
        "PORT_8000_TCP_PORT",
        "GPU",
        "BASE",
    ],
)
def test_variables_of_others_are_left_alone(name):
    assert misspelt_variables({PREFIX + name: "1"}) == []
