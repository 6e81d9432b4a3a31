import pytest

from cellgate.serve.settings import Settings, SettingsError


def test_defaults_are_reachable_from_this_machine_only_and_bounded():
    settings = Settings()

    assert (settings.host, settings.port, settings.device) == ("127.0.0.1", 8000, "auto")
    assert settings.limits.max_row_steps <= settings.limits.max_batch_rows * settings.limits.max_steps


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("port", 65536, r"port \(CELLGATE_PORT\): expected 0 .. 65535, found 65536"),
        ("port", -1, "found -1"),
        ("port", True, "found True"),
        ("port", 80.0, r"found 80\.0"),
        ("device", "gpu", "device .*: expected one of auto, cpu, cuda, found 'gpu'"),
        ("host", "", "host .*: expected an address"),
        ("log_format", "xml", "log_format .*: expected one of text, json, found 'xml'"),
        ("otel_endpoint", "collector:4318", "otel_endpoint .*: expected a URL that begins with http"),
        ("threads", 0, r"expected 1 .. 1024, found 0"),
        ("workers", 0, "found 0"),
        ("run_limit_s", 0.0, "found 0.0"),
        ("max_waiting", -1, "found -1"),
        ("max_waiting", None, "found None"),
        ("max_body_bytes", 1023, "found 1023"),
        ("shutdown_grace_s", float("nan"), "expected 0.0 .. 3600.0 seconds, found nan"),
        ("keep_alive_s", "5", "found '5'"),
        ("open_paths", "health,all", "open_paths .*: expected health, metrics, docs, .* or none, found 'all'"),
        ("allowed_hosts", "a.example:80", "allowed_hosts .*: expected host names without ports, .*'a.example:80'"),
        ("cors_origins", "*", r"cors_origins .*: expected origins like https://HOST\[:PORT\], .*found '\*'"),
        ("tls_cert", "cert.pem", "tls_key .*: expected a file, for there is tls_cert, found None"),
        ("tls_key", "key.pem", "tls_cert .*: expected a file, for there is tls_key, found None"),
        ("head_timeout_s", 0.0, "expected 0.1 .. 3600.0 seconds, found 0.0"),
        (
            "stream_store",
            "disk",
            "stream_store .*: expected one of memory, sqlite:PATH, redis.*, found 'disk'",
        ),
        ("stream_store", "sqlite:", "found 'sqlite:'"),
        ("stream_store", "http://user:secret@host", "found 'http:…'"),
        ("stream_idle_s", 0.5, "expected 1.0 .. 31536000.0 seconds"),
        ("engine_hang_s", 0.5, "expected 0, which switches it off, or at least 1 second, found 0.5"),
        ("engine_hang_s", -1.0, "expected 0.0 .. 86400.0 seconds, found -1.0"),
    ],
)
def test_value_outside_its_range_is_refused_by_name(name, value, message):
    with pytest.raises(SettingsError, match=message):
        Settings(**{name: value})


def test_the_control_port_leaves_room_for_the_one_of_grpc_after_it():
    with pytest.raises(SettingsError, match=r"^control_port .*the one after --control-port; .*, found 65535"):
        Settings(control=True, control_port=65535)
    assert Settings(control=True, control_port=65535, grpc=False).control_rpc_port == 65536
    assert Settings(control=True, control_port=0).control_rpc_port == 0


@pytest.mark.parametrize(
    ("given", "port"),
    [
        ({}, 8001),
        ({"port": 9000}, 9001),
        ({"port": 0}, 0),
        ({"port": 0, "grpc_port": 7}, 7),
        ({"grpc_port": 0}, 0),
    ],
)
def test_grpc_takes_the_port_after_that_of_http_unless_it_is_told(given, port):
    assert Settings(**given).rpc_port == port


def test_no_port_follows_the_last_one():
    with pytest.raises(SettingsError, match=r"^port \(.*the one after --port; .*--grpc-port, or --no-grpc, found"):
        Settings(port=65535)

    assert Settings(port=65535, grpc=False).port == 65535
