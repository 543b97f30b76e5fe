# How the cost of a pull grows with files, bytes and layers: at 1, 4 and 16 times, and the exponent that fits best. The
# images come from layouts, so that the registry's cost is left out.
growth() {
    local axis=$1 words=$2 number times=() cpu=() directory discard=
    say "growth with $axis"
    [ "$axis" != bytes ] || discard=yes
    for number in "${@:3}"; do
        directory=$(generated "$axis" "$number")
        times+=("$(timed "$heavy" "$work/store" "$mvmctl --quiet --root $work/store pull oci:$directory:latest")")
        cpu+=("$(awk -v u="$(field user)" -v s="$(field system)" 'BEGIN { print u + s }')")
        row "growth with $axis: pull of $(printf "$words" "$number")" "$(printf %.3f "${times[-1]}")" s ''
    done
    aside "$work/store"
    row '  exponent of wall time' "$(exponent "${times[@]}")" '' '<1.1'
    row '  exponent of processor time' "$(exponent "${cpu[@]}")" '' '<1.1'
}
# Least squares of three points whose logarithms are equally far apart: the slope between the outer two.
exponent() { awk -v a="$1" -v b="$3" 'BEGIN { printf "%.2f", log(b / a) / log(16) }'; }
growth layers '%d layers' 30 120 480
growth files '%d files' 10000 40000 160000
growth bytes '%d bytes' 125000000 500000000 2000000000
