#!/usr/bin/env bash
# compose_test.sh PYTHON: builds docker-compose.yml's server, starts it, asks it, looks into it, stops it, and lets
# Prometheus find it. PYTHON has cellgate and torch: what the network answers in PyTorch is compared with what comes out
# of the published port.
#
# As root, on Debian or a relative of it, without a Docker daemon: podman runs the containers and speaks Docker's API.
# Images come from the registry where it can be reached; elsewhere they are made of Debian's own packages, in the release
# of this machine, so that pip finds inside what it finds outside. Everything lies in one folder, which is removed at the
# end, however it ends. WORK=DIR keeps it there: the next run finds its images and layers.
set -euo pipefail
python=$(realpath -s "${1:?usage: compose_test.sh PYTHON}")
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."

if [ "$(id -u)" != 0 ]; then
    echo 'compose_test.sh: expected root, who may mount and make networks; run it with sudo' >&2
    exit 2
fi
work=${WORK:-$(mktemp -d /var/tmp/cellgate-containers.XXXXXX)}
mkdir -p "$work"
export CONTAINERS_CONF=$work/containers.conf CONTAINERS_STORAGE_CONF=$work/storage.conf
export DOCKER_HOST=unix://$work/docker.sock COMPOSE_PROJECT_NAME=cellgate-test
service='' passed=0

step() { echo "--- $* [${SECONDS} s]"; }
passes() { passed=$((passed + 1)); echo "  ok: $*"; }
fails() { echo "  FAILED: $*" >&2; exit 1; }

clean_up() {
    local status=$? mount
    trap - EXIT
    set +e # whatever cannot be removed, the rest is
    if [ -n "$service" ]; then
        if [ "$status" != 0 ]; then
            echo 'what the containers and podman said last:' >&2
            timeout 20 docker-compose logs --tail 30 >&2
            tail -n 20 "$work/service.log" >&2
        fi
        timeout 60 docker-compose --profile gpu --profile monitoring down --volumes --timeout 2 &>/dev/null
        kill "$service" 2>/dev/null && wait "$service"
    fi
    if [ -z "${WORK:-}" ]; then
        podman rm --all --force &>/dev/null
        findmnt --raw --noheadings --output TARGET | grep "^$work/" | sort --reverse | while read -r mount; do
            umount "$mount"
        done
        rm -rf "$work" "/var/lib/cni/networks/${COMPOSE_PROJECT_NAME}_default"
    fi
    [ "$status" = 0 ] && echo "$passed passed, 0 failed" || echo "$passed passed, 1 failed"
    step "cleaned up"
    exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

. "$here/machine.sh"
. "$here/checks.sh"

install_tools
step "tools"
configure_podman
prepare_images
step "base: $CELLGATE_BASE, $(podman image inspect --format '{{.Size}}' "$CELLGATE_BASE" | numfmt --to=si)B"

mkdir -p "$work/tmp"
TMPDIR=$work/tmp podman system service --time=0 "$DOCKER_HOST" &>"$work/service.log" &
service=$!
timeout 30 bash -c "until [ -S '$work/docker.sock' ]; do sleep 0.1; done"

check_files
step "built by docker-compose"
build_server
step "image"
check_image
step "up"
check_serving
step "stop"
check_stopping
step "a bundle of one's own"
check_own_bundle
step "monitoring"
check_monitoring
