# Own time before the hypervisor starts, and the way to the first output against a bare QEMU.
say 'start of a cached image'
hello_program
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

for _ in $(seq $((runs * 2))); do
    traced "$mvmctl" --quiet --root "$store" run --rm "$static" >/dev/null
    awk 'NR == 1 { begin = $2 } /execve\("[^"]*qemu-system/ { printf "%.6f\n", $2 - begin; exit }' "$work/trace"
done >"$work/own-time"
hypervisor_arguments
row 'own time before the hypervisor starts' "$(awk -v s="$(median <"$work/own-time")" 'BEGIN { print s * 1000 }')" ms '<50'

for _ in $(seq $((runs * 2))); do until_hello "$mvmctl" --quiet --root "$store" run --rm "$static"; done >"$work/run"
row 'mvmctl run to first output' "$(median <"$work/run")" s ''
if [ -f "$kernel" ]; then
    bare_qemu
    for _ in $(seq $((runs * 2))); do until_hello "${bare[@]}"; done >"$work/bare"
    row 'bare QEMU to the first line of /init, same kernel' "$(median <"$work/bare")" s ''
    row '  times the time of bare QEMU' "$(ratio "$(median <"$work/run")" "$(median <"$work/bare")")" x '<1.3'
else
    say "SKIP bare QEMU: no tuned kernel at $kernel (make kernel)"
fi
