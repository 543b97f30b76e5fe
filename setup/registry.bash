# Sourced by scripts that need a registry: starts Debian's docker-registry on loopback, on a port of the system's choice.
#
#   start_registry DIRECTORY   sets registry_pid and registry_port
#   stop_registry              ends it; safe to call twice, and meant for an EXIT trap
registry_pid=
registry_port=

start_registry() {
    local directory=$1 program
    program=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/.cache/packages/docker-registry/usr/bin/docker-registry
    cat >"$directory/registry.yml" <<END
version: 0.1
log: {level: info, formatter: json}
storage: {filesystem: {rootdirectory: $directory/registry}}
http: {addr: "127.0.0.1:0"}
END
    "$program" serve "$directory/registry.yml" >"$directory/registry.log" 2>&1 &
    registry_pid=$!
    for _ in $(seq 300); do
        registry_port=$(sed -n 's/.*listening on 127\.0\.0\.1:\([0-9]*\)".*/\1/p' "$directory/registry.log")
        [ -z "$registry_port" ] || return 0
        kill -0 "$registry_pid" 2>/dev/null || break
        sleep 0.1
    done
    cat "$directory/registry.log" >&2
    echo 'the registry did not start' >&2
    return 1
}

stop_registry() {
    [ -n "$registry_pid" ] || return 0
    kill "$registry_pid" 2>/dev/null || true
    wait "$registry_pid" 2>/dev/null || true
    registry_pid=
}
