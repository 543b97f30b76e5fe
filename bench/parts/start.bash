# Own time before the hypervisor starts, and the way to the first output against a bare QEMU.
say 'start of a cached image'
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
tar -C "$work/root" --owner=0 --group=0 --mtime=@0 -cf "$work/hello.tar" hello
umoci init --layout "$work/static"
umoci new --image "$work/static:latest"
umoci raw add-layer --image "$work/static:latest" "$work/hello.tar"
umoci config --image "$work/static:latest" --config.entrypoint=/hello
static=oci:$work/static:latest
store=$work/store
if [ -f "$kernel" ]; then which=$kernel; else which=.cache/packages/linux-image-cloud-amd64; fi
"$mvmctl" --quiet --root "$store" kernel import "$which" >/dev/null
"$mvmctl" --quiet --root "$store" run --rm "$static"

# When the hypervisor is started, and with which arguments, is seen from outside: confined, it can't tell itself. Only what is
# asked for is stopped at.
traced() {
    strace -f --seccomp-bpf -qq -ttt -s 100000 -e trace=execve -e signal=none -o "$work/trace" "$@"
}
qemu=$(command -v qemu-system-x86_64)
for _ in $(seq $((runs * 2))); do
    traced "$mvmctl" --quiet --root "$store" run --rm "$static" >/dev/null
    awk 'NR == 1 { begin = $2 } /execve\("[^"]*qemu-system/ { printf "%.6f\n", $2 - begin; exit }' "$work/trace"
done >"$work/own-time"
sed -n '/execve("[^"]*qemu-system/ { s/^[^[]*\["//; s/"\], 0x.*//; s/", "/\n/g; p; q }' "$work/trace" >"$work/arguments"
row 'own time before the hypervisor starts' "$(awk -v s="$(median <"$work/own-time")" 'BEGIN { print s * 1000 }')" ms '<50'

# Time until a command says hello; firmware may have said something before.
until_hello() {
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
for _ in $(seq $((runs * 2))); do until_hello "$mvmctl" --quiet --root "$store" run --rm "$static"; done >"$work/run"
row 'mvmctl run to first output' "$(median <"$work/run")" s ''
if [ -f "$kernel" ]; then
    # The same machine with nothing but the kernel and an init that says a line: the arguments that mvmctl gave, less
    # its disks and its agent.
    cp "$work/root/hello" "$work/init/init"
    (cd "$work/init" && printf 'init\ndev\n' | cpio -o -H newc --quiet -R 0:0 >"$work/initrd")
    cpu=$(sed -n '/^-cpu$/{n;p}' "$work/arguments")
    append=$(sed -n '/^-append$/{n;p}' "$work/arguments")
    memory=$(sed -n '/^-m$/{n;p}' "$work/arguments")
    accel=$(sed -n '/^-accel$/{n;p}' "$work/arguments")
    bare=("$qemu" -M microvm,acpi=off,isa-serial=on -accel "${accel:-tcg,thread=multi}" -cpu "$cpu" -m "$memory" -kernel "$kernel"
        -initrd "$work/initrd" -append "$append" -nodefaults -no-user-config -display none -no-reboot -serial stdio)
    "${bare[@]}" >"$work/words" 2>&1 </dev/null && grep -q hello "$work/words" || { cat "$work/words" >&2; say "bare QEMU does not boot"; exit 1; }
    for _ in $(seq $((runs * 2))); do until_hello "${bare[@]}"; done >"$work/bare"
    row 'bare QEMU to the first line of /init, same kernel' "$(median <"$work/bare")" s ''
    row '  times the time of bare QEMU' "$(ratio "$(median <"$work/run")" "$(median <"$work/bare")")" x '<1.3'
else
    say "SKIP bare QEMU: no tuned kernel at $kernel (make kernel)"
fi
