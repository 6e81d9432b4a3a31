# What this machine needs before it can build and start containers. Sourced by compose_test.sh, which sets work.

install_tools() {
    local packages=(podman runc containernetworking-plugins golang-github-containernetworking-plugin-dnsname
        iptables mmdebstrap docker-compose)
    local installed
    installed=$(dpkg-query --show --showformat='${Status}\n' "${packages[@]}" 2>/dev/null | grep -c ' installed$' || true)
    if [ "$installed" != "${#packages[@]}" ]; then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" &>"$work/apt.log" ||
            { cat "$work/apt.log" >&2; return 1; }
    fi
    # Two programs of a package whose service is not wanted: taken out, not installed.
    if [ ! -x "$work/package/usr/bin/promtool" ]; then
        [ -n "$(apt-cache show prometheus 2>/dev/null)" ] || apt-get update -qq
        (cd "$work" && apt-get download -qq prometheus 2>/dev/null && dpkg --extract prometheus_*.deb package)
    fi
    PATH=$work/package/usr/bin:$PATH
}

# A value as TOML and YAML and JSON alike write it.
quoted() { printf '"%s"' "$1"; }

# Folders and files of this machine that pip was told of, and that a build must see at the same place: one a line.
pip_places() {
    local word
    for word in ${PIP_FIND_LINKS:-} ${PIP_EXTRA_INDEX_URL:-} ${PIP_INDEX_URL:-}; do
        word=${word#file://}
        # An index names its files by relative links, which lead up and to a folder beside it.
        [ ! -d "$word" ] || echo "${word%/simple}"
    done
}

# runc: Debian 12's crun refuses machines with both kinds of control groups. default_ulimits: what podman asks for by
# itself is more than root gets where it lacks CAP_SYS_RESOURCE. volumes: packages and certificates of this machine, for pip in a build.
configure_podman() {
    local setting certificates volumes=() place
    for setting in find-links extra-index-url index-url; do
        local name=PIP_${setting^^}
        name=${name//-/_}
        export "$name"="${!name:-$("$python" -m pip config get "global.$setting" 2>/dev/null || true)}"
    done
    certificates=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}
    if [ -f "$certificates" ]; then
        volumes+=("$(quoted "$certificates:/etc/ssl/certs/ca-certificates.crt:ro")")
        export PIP_CERT=/etc/ssl/certs/ca-certificates.crt
    fi
    for place in $(pip_places | sort --unique); do
        volumes+=("$(quoted "$place:$place:ro")")
    done
    mkdir -p "$work/networks"
    cat >"$CONTAINERS_CONF" <<END
[containers]
default_ulimits = ["nofile=$(ulimit -Hn):$(ulimit -Hn)", "nproc=4096:4096"]
volumes = [$(IFS=,; echo "${volumes[*]}")]
[engine]
runtime = "runc"
events_logger = "file"
[network]
network_config_dir = "$work/networks"
END
    cat >"$CONTAINERS_STORAGE_CONF" <<END
[storage]
driver = "overlay"
graphroot = "$work/storage"
runroot = "$work/run"
END
}

pulls() { timeout 120 podman pull --quiet "docker.io/$1" &>"$work/pull.log"; }

# The base of the server's image, and Prometheus': the real ones, or what Debian has of them.
prepare_images() {
    local real=library/python:3.13-slim prometheus
    prometheus=$(sed -n 's/^ *image: \(prom\/prometheus:.*\)/\1/p' docker-compose.yml)
    export CELLGATE_BASE=${CELLGATE_BASE:-docker.io/$real}
    if ! podman image exists "$CELLGATE_BASE" && ! pulls "$real"; then
        CELLGATE_BASE=localhost/debian-python:$(release)
        podman image exists "$CELLGATE_BASE" || make_base
    fi
    podman image exists "docker.io/$prometheus" || pulls "$prometheus" || make_prometheus "docker.io/$prometheus"
}

release() { (. /etc/os-release && echo "${SUITE:-$VERSION_CODENAME}"); }

# Debian with Python and its headers, without manuals, translations and libraries to link, as the registry's slim images
# are.
make_base() {
    local mirror
    mirror=$(cat /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2>/dev/null |
        awk '!found && (/^URIs:/ || /^deb /) { print $2; found = 1 }' || true)
    mmdebstrap --quiet --variant=minbase --include=python3,python3-dev,python3-venv,ca-certificates \
        --aptopt='Acquire::Languages "none"' --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-exclude=/usr/lib/*/libpython*.a' --dpkgopt='path-exclude=/usr/lib/python3*/config-*/*.a' \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --customize-hook='ln -s /usr/bin/python3 "$1/usr/local/bin/python"' \
        "$(release)" "$work/base.tar" ${mirror:+"$mirror"}
    podman import --quiet "$work/base.tar" "$CELLGATE_BASE" >/dev/null
    rm "$work/base.tar"
}

make_prometheus() {
    mkdir -p "$work/prometheus"
    cp "$work/package/usr/bin/prometheus" "$work/prometheus/"
    cat >"$work/prometheus/Dockerfile" <<END
FROM $CELLGATE_BASE
COPY prometheus /bin/prometheus
RUN mkdir /prometheus && chown 65534:65534 /prometheus
USER 65534
ENTRYPOINT ["/bin/prometheus"]
END
    podman build --quiet --tag "$1" "$work/prometheus" >/dev/null
}
