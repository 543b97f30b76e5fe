# The builder, from the command to the first word of a program in it, against the same machine with nothing but the kernel
# and an init that says a line.
say 'start of the builder'
store=$work/builder-store
if [ -f "$kernel" ]; then
    "$mvmctl" --quiet --root "$store" kernel import "$kernel" >/dev/null
    "$mvmctl" --quiet --root "$store" builder init >/dev/null
    ready() { "$mvmctl" --quiet --root "$store" builder shell --offline -- /bin/echo hello; }
    ready >/dev/null
    traced "$mvmctl" --quiet --root "$store" builder shell --offline -- /bin/true
    hypervisor_arguments
    for _ in $(seq $((runs * 2))); do until_hello ready; done >"$work/builder"
    bare_qemu
    for _ in $(seq $((runs * 2))); do until_hello "${bare[@]}"; done >"$work/bare"
    row 'mvmctl builder shell to the first output' "$(median <"$work/builder")" s ''
    row 'bare QEMU to the first line of /init, same kernel and memory' "$(median <"$work/bare")" s ''
    row '  times the time of bare QEMU' "$(ratio "$(median <"$work/builder")" "$(median <"$work/bare")")" x '<1.5'
else
    say "SKIP the builder: no tuned kernel at $kernel (make kernel)"
fi
