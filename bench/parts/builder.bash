# The builder, from the command until it takes commands, and to the first word of a program in it, against the same machine
# with nothing but the kernel and an init that says a line.
say 'start of the builder'
store=$work/builder-store
if [ -f "$kernel" ]; then
    "$mvmctl" --quiet --root "$store" kernel import "$kernel" >/dev/null
    "$mvmctl" --quiet --root "$store" builder init >/dev/null
    hello() { "$mvmctl" --quiet --root "$store" builder shell --offline -- /bin/echo hello; }
    # Prints when the last builder was ready, as the events of its VM tell: the guest has said that it takes commands.
    ready_at() {
        local times
        times=$("$mvmctl" --root "$store" events --json --vm mvm-builder | sed -n 's/^{"time":"\([^"]*\)",.*"event":"ready"}$/\1/p')
        date --date "${times##*$'\n'}" +%s.%3N
    }
    hello >/dev/null
    traced "$mvmctl" --quiet --root "$store" builder shell --offline -- /bin/true
    hypervisor_arguments
    bare_qemu
    for _ in $(seq $((runs * 2))); do
        sync
        begin=$EPOCHREALTIME
        hello >/dev/null
        seconds_since "$begin" "$(ready_at)" >>"$work/builder-ready"
        until_hello hello >>"$work/builder-output"
        until_hello "${bare[@]}" >>"$work/builder-bare"
    done
    bare_time=$(median <"$work/builder-bare")
    row 'bare QEMU to the first line of /init, same kernel and memory' "$bare_time" s ''
    for what in ready output; do
        row "mvmctl builder shell, to $what" "$(median <"$work/builder-$what")" s ''
        bound=
        [ "$what" = output ] || bound='<1.5'
        row '  times the time of bare QEMU' "$(ratio "$(median <"$work/builder-$what")" "$bare_time")" x "$bound"
    done
else
    say "SKIP the builder: no tuned kernel at $kernel (make kernel)"
fi
