# What is checked. Sourced by compose_test.sh, which sets work, python, passes and fails.

up() { docker-compose up --detach "$@" &>"$work/up.log" || { cat "$work/up.log" >&2; fails "docker-compose up $*"; }; }
inside() { docker-compose exec -T cellgate "$@"; }
container() { docker-compose ps --quiet "$1"; }

free_port() { "$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# expect WHAT WANTED FOUND
expect() {
    [ "$2" = "$3" ] || fails "$1: expected $2, found $3"
    passes "$1: $3"
}

# The example's answer from PyTorch, from the published port, and the two compared.
ask() {
    "$python" tests/containers/ask_example.py "http://127.0.0.1:$CELLGATE_PORT" || fails 'the answer of the example'
    passed=$((passed + 1))
}

check_files() {
    local profile
    for profile in none gpu monitoring; do
        docker-compose --profile "$profile" config --quiet || fails "docker-compose config, profile $profile"
    done
    passes 'docker-compose config, with every profile'
    promtool check config deploy/prometheus/prometheus.yml >/dev/null || fails 'promtool check config'
    passes 'promtool check config, alert rules too'
    promtool test rules tests/deploy/alerts_test.yml >/dev/null || fails 'promtool test rules'
    passes 'promtool test rules: each alert fires when it should, and not otherwise'
    "$python" tests/deploy/queries.py >"$work/queries.yml"
    promtool check rules "$work/queries.yml" >/dev/null || fails 'a query of the dashboard'
    passes "every query of the dashboard is PromQL: $(grep -c '"expr":' "$work/queries.yml")"
}

build_server() {
    CELLGATE_PORT=$(free_port) CELLGATE_GRPC_PORT=$(free_port) PROMETHEUS_PORT=$(free_port)
    export CELLGATE_PORT CELLGATE_GRPC_PORT PROMETHEUS_PORT
    nice docker-compose build cellgate &>"$work/build.log" || { tail -n 40 "$work/build.log" >&2; fails 'docker-compose build'; }
    passes 'docker-compose build'
}

check_image() {
    local image=localhost/cellgate:cpu
    podman image exists "$image" || image=docker.io/library/cellgate:cpu
    expect 'user of the image' 10001:10001 "$(podman image inspect --format '{{.Config.User}}' "$image")"
    expect 'stop signal of the image' SIGTERM "$(podman image inspect --format '{{.Config.StopSignal}}' "$image")"
    [ -z "$(podman image inspect --format '{{json .Config.Env}}' "$image" | grep -o PIP_ || true)" ] ||
        fails 'a setting of the build is left in the image'
    passes 'no setting of the build is left in the image'
    podman image inspect --format '{{.Size}}' "$image" | numfmt --to=si --suffix=B --format='  image: %f'
}

check_serving() {
    up
    wait_until_ready
    ask
    expect 'user, in the container' '10001 10001' "$(inside python -c 'import os; print(os.getuid(), os.getgid())')"
    expect 'capabilities of the server' '0000000000000000 0000000000000000 0000000000000000 1' "$(inside python -c "
words = dict(line.split(':', 1) for line in open('/proc/1/status'))
print(*(words[name].strip() for name in ('CapPrm', 'CapEff', 'CapBnd', 'NoNewPrivs')))")"
    expect 'file system' '/: read-only, /srv: read-only, /opt/cellgate: read-only, /tmp: written' "$(inside python -c "
import errno
from pathlib import Path
def write(folder):
    try:
        Path(folder, 'new').write_text('')
    except OSError as err:
        return 'read-only' if err.errno == errno.EROFS else repr(err)
    return 'written'
print(*(f'{folder}: {write(folder)}' for folder in ('/', '/srv', '/opt/cellgate', '/tmp')), sep=', ')")"
    expect 'packages that must not be there' '' "$(inside python -c "
from importlib.util import find_spec
print(*(name for name in ('torch', 'onnx', 'onnxscript', 'pip', 'setuptools') if find_spec(name)))")"
    expect 'its inner parts' compiled "$(inside cellgate --version | sed -n 's/.*, //p')"
    inside cellgate ready >/dev/null || fails 'the health command'
    passes 'the health command exits with 0'
    if inside cellgate ready http://127.0.0.1:9 2>/dev/null; then fails 'the health command, with nobody there'; fi
    passes 'the health command exits otherwise where nobody answers'
    podman healthcheck run "$(container cellgate)" >/dev/null || fails 'the health check of docker-compose.yml'
    passes 'the health check of docker-compose.yml is healthy'
}

wait_until_ready() {
    timeout 60 "$python" -c "
import sys, time
from http.client import HTTPConnection, HTTPException
while True:
    try:
        connection = HTTPConnection('127.0.0.1', int(sys.argv[1]), timeout=2)
        connection.request('GET', '/v2/health/ready')
        if connection.getresponse().status == 200:
            break
    except (OSError, HTTPException):
        pass
    time.sleep(0.1)" "$CELLGATE_PORT" || fails 'ready within 60 s'
}

check_stopping() {
    local name began=$SECONDS
    name=$(container cellgate)
    docker-compose stop &>/dev/null
    expect 'exit code after docker-compose stop' 0 "$(podman inspect --format '{{.State.ExitCode}}' "$name")"
    [ $((SECONDS - began)) -lt 30 ] || fails "it took $((SECONDS - began)) s, so it was killed"
    podman logs "$name" 2>&1 | grep -qx stopped || fails 'the last line of the server'
    passes "the server said that it stopped, after $((SECONDS - began)) s"
}

# The example under another name, from a folder that is mounted: what docs/deploy.md says for a bundle of one's own.
check_own_bundle() {
    local name
    name=$(container cellgate)
    rm -rf "$work/bundles" && mkdir "$work/bundles"
    podman cp "$name:/srv/example/japanese-vowels" "$work/bundles/mine"
    export CELLGATE_BUNDLES=$work/bundles CELLGATE_BUNDLE=bundles/mine
    up
    wait_until_ready
    ask
    podman logs "$(container cellgate)" 2>&1 | grep '^serving '
    expect 'what is served' "[$(quoted serve), $(quoted bundles/mine)]" \
        "$(podman inspect --format '{{json .Config.Cmd}}' "$(container cellgate)" | sed 's/,/, /')"
}

# Prometheus finds the server by its name in the network of the project, and scrapes it.
check_monitoring() {
    up prometheus
    "$python" tests/containers/ask_prometheus.py "http://127.0.0.1:$PROMETHEUS_PORT" ||
        fails 'the target of Prometheus'
    passed=$((passed + 1))
}
