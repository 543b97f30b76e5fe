# Sourced by bench/run: paths, the table, timing, images, the peers' way from a registry to an EROFS image.
cache=$PWD/.cache/bench
mvmctl=${MVMCTL:-$PWD/target/release/mvmctl}
kernel=${MVM_TEST_KERNEL:-$PWD/.cache/kernel/out}/vmlinux
runs=${BENCH_RUNS:-5}
heavy=${BENCH_HEAVY:-3}
mkdir -p "$cache"
work=$(mktemp -d "$cache/work.XXXXXX")
trap finish EXIT
trap 'exit 130' INT TERM
rows=()
# A file system that is mounted for the time of a measurement.
mounted=

# Ends what was started and prints the table, also of a run that broke off.
finish() {
    stop_registry
    [ -z "$mounted" ] || umount "$mounted"
    rm -rf "$work"
    [ ${#rows[@]} -gt 0 ] || return 0
    printf '\n%-62s %10s %-4s %-8s\n' measurement value '' bound
    printf '%s\n' "${rows[@]}"
}
say() { printf 'bench: %s\n' "$*" >&2; }

# Adds a row: name, value, unit, bound (">N" or "<N" or nothing), verdict if it isn't to be computed.
row() {
    local verdict=${5:-}
    if [ -z "$verdict" ] && [ -n "$4" ]; then
        verdict=$(awk -v v="$2" -v b="$4" 'BEGIN {
            over = b ~ /^>/; sub(/^[<>]/, "", b); print (over ? v >= b + 0 : v <= b + 0) ? "ok" : "MISSED" }')
    fi
    rows+=("$(printf '%-62s %10s %-4s %-8s %s' "$1" "$2" "$3" "$4" "$verdict")")
}
ratio() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", a / b }'; }
median() { sort -n | awk '{ v[NR] = $1 } END { printf "%.3f", (NR % 2) ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }
seconds_since() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.4f\n", b - a }'; }

# Moves a path out of the way; it is removed at the end, or now if $discard says that it is too large. A file system may go
# on for minutes avoiding every inode that was just freed, which makes the next measurement's files slow to create.
aside() {
    if [ ! -e "$1" ]; then
        return 0
    elif [ -n "${discard:-}" ]; then
        rm -rf "$1"
    else
        mv "$1" "$(mktemp -d "$work/aside.XXXXXX")"
    fi
}
# Prints the median wall time of a command in seconds: repetitions, what must be absent before each, command. What others
# have left to be written is written first, so that nobody waits for another one's data.
timed() {
    local prepare=$work/prepare
    printf '#!/bin/bash\nset -e\nwork=%s discard=%s\n%s\naside %s\nsync\n' "$work" "${discard:-}" "$(declare -f aside)" "$2" >"$prepare"
    chmod +x "$prepare"
    hyperfine --shell none --warmup 1 --runs "$1" --show-output --prepare "$prepare" --export-json "$work/time.json" "$3" \
        >"$work/words" 2>&1 || { tail -n 40 "$work/words" >&2; return 1; }
    field median
}
# Prints a number of the last measurement: median, user, system.
field() { sed -n "s/^ *\"$1\": \\([0-9.e-]*\\),\$/\\1/p" "$work/time.json" | head -n 1; }

# Prints the peak memory of a pull into an empty store, in MiB.
peak() {
    aside "$work/store"
    { command time -f %M "$mvmctl" --quiet --root "$work/store" pull "$1" >/dev/null; } 2>&1 | tail -n 1 | awk '{ printf "%.1f", $1 / 1024 }'
}
# Adds the row of peak memory: image, number of entries.
peak_row() { row '  peak memory' "$(peak "$1")" MiB "<$(awk -v n="$2" 'BEGIN { printf "%.0f", 64 + n * 512 / 1048576 + 1 }')"; }

# Starts the registry of this run unless it runs, and pushes a layout: prints nothing, sets image.
push() {
    [ -n "$registry_pid" ] || start_registry "$work"
    image=127.0.0.1:$registry_port/bench/$2:latest
    skopeo --insecure-policy copy --quiet --dest-tls-verify=false "oci:$1:latest" "docker://$image"
}

# Writes $work/peers, which takes $image by skopeo and umoci to an EROFS image in $work/p.
write_peers() {
    cat >"$work/peers" <<END
#!/bin/sh -e
mkdir -p $work/p
skopeo --insecure-policy copy --quiet --src-tls-verify=false docker://$image oci:$work/p/layout:latest
umoci unpack $([ "$(id -u)" = 0 ] || echo --rootless) --image $work/p/layout:latest $work/p/bundle
mkfs.erofs --quiet -d0 $work/p/image $work/p/bundle/rootfs
END
    chmod +x "$work/peers"
}

# Prints the directory of a generated layout, made now if it is not there: files|bytes|layers, number.
generated() {
    local program directory key
    program=${CARGO_TARGET_DIR:-target}/release/scale
    key=$(cat tests/src/fixtures/{scale,content,oci,rng}.rs | sha256sum | cut -c 1-12)
    directory=$cache/$1-$2-$key
    if [ ! -d "$directory" ]; then
        say "generating an image ($1: $2)"
        rm -rf "$cache/$1-$2-"*
        cargo build --quiet --release --locked -p mvm-tests --bin scale >&2
        "$program" "$1" "$2" "$directory.partial"
        mv "$directory.partial" "$directory"
    fi
    echo "$directory"
}

# Makes the tar of a Debian root with Python and Perl, once.
tar=$cache/debian.tar
debian() {
    [ ! -f "$tar" ] || return 0
    local mode=()
    [ "$(id -u)" = 0 ] || mode=(--mode=unshare)
    SOURCE_DATE_EPOCH=1700000000 mmdebstrap "${mode[@]}" --quiet --variant=minbase --include=python3,perl bookworm "$tar.partial.tar"
    mv "$tar.partial.tar" "$tar"
}

# Makes a layout of that tar in one gzip layer, in this run's directory.
debian_layout() {
    [ ! -d "$work/layout" ] || return 0
    debian
    umoci init --layout "$work/layout"
    umoci new --image "$work/layout:latest"
    umoci raw add-layer --image "$work/layout:latest" "$tar"
}

# Compiles a program that says hello, for an image ($work/root) and as the first process of a machine.
hello_program() {
    [ ! -x "$work/root/hello" ] || return 0
    cat >"$work/hello.c" <<'END'
#include <unistd.h>
#include <sys/reboot.h>
int main(void)
{
    if (write(1, "hello\n", 6) != 6)
        return 1;
    if (getpid() == 1)
        reboot(RB_AUTOBOOT);
    return 0;
}
END
    mkdir -p "$work/root" "$work/init/dev"
    gcc -O1 -static -s -o "$work/root/hello" "$work/hello.c"
}

# When a hypervisor is started, and with which arguments, is seen from outside: confined, it can't tell itself. Only what is
# asked for is stopped at.
traced() {
    strace -f --seccomp-bpf -qq -ttt -s 100000 -e trace=execve -e signal=none -o "$work/trace" "$@"
}
# Writes the arguments of the hypervisor that was traced to $work/arguments, one a line.
hypervisor_arguments() {
    sed -n '/execve("[^"]*qemu-system/ { s/^[^[]*\["//; s/"\], 0x.*//; s/", "/\n/g; p; q }' "$work/trace" >"$work/arguments"
}

# Time until a command says hello; firmware may have said something before. What the run before it left to be written is
# written first.
until_hello() {
    sync
    local begin=$EPOCHREALTIME line
    while read -r line; do
        case $line in *hello*)
            seconds_since "$begin" "$EPOCHREALTIME"
            break
            ;;
        esac
    done < <("$@" 2>/dev/null </dev/null)
    wait $! || true
}

# Sets bare: the machine of $work/arguments with nothing but the kernel and an init that says a line, less its disks and its
# agent.
bare_qemu() {
    hello_program
    cp "$work/root/hello" "$work/init/init"
    (cd "$work/init" && printf 'init\ndev\n' | cpio -o -H newc --quiet -R 0:0 >"$work/initrd")
    local cpu append memory accel
    cpu=$(sed -n '/^-cpu$/{n;p}' "$work/arguments")
    append=$(sed -n '/^-append$/{n;p}' "$work/arguments")
    memory=$(sed -n '/^-m$/{n;p}' "$work/arguments")
    accel=$(sed -n '/^-accel$/{n;p}' "$work/arguments")
    bare=("$(command -v qemu-system-x86_64)" -M microvm,acpi=off,isa-serial=on -accel "${accel:-tcg,thread=multi}" -cpu "$cpu"
        -m "$memory" -kernel "$kernel" -initrd "$work/initrd" -append "$append" -nodefaults -no-user-config -display none
        -no-reboot -serial stdio)
    "${bare[@]}" >"$work/words" 2>&1 </dev/null && grep -q hello "$work/words" || { cat "$work/words" >&2; say "bare QEMU does not boot"; exit 1; }
}
