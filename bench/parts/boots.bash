# Many boots one after the other, each with the right answer.
say "${BENCH_BOOTS:-200} boots in a row"
begin=$EPOCHREALTIME
MVM_TEST_BOOTS=${BENCH_BOOTS:-200} MVMCTL=$mvmctl cargo test --quiet -p mvm-tests --test system -- boots::in_a_row >"$work/boots" 2>&1 ||
    { tail -n 40 "$work/boots" >&2; exit 1; }
grep -q '^1 passed, 0 failed' "$work/boots" || { grep SKIP "$work/boots" >&2; say 'the boots were skipped'; }
row "${BENCH_BOOTS:-200} boots in a row, all with the right answer" "$(seconds_since "$begin" "$EPOCHREALTIME")" s ''
