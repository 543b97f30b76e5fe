# 1,000 store paths of 500 MB out of the builder, against the wire's own rate in the same VM. Where others compute at the same
# time, only the ratio means something.
say 'import of a closure of 1,000 paths'
store=$cache/builder
if [ -f "$kernel" ]; then which=$kernel; else which=.cache/packages/linux-image-cloud-amd64; fi
packages=$(nix/testing/prepare)
"$mvmctl" --quiet --root "$store" kernel import "$which" >/dev/null
if [[ $("$mvmctl" --quiet --root "$store" builder status) == *none* ]]; then
    "$mvmctl" --quiet --root "$store" builder init >/dev/null
fi
flake=$(realpath -m "$cache/closure")
if [ ! -f "$flake/flake.nix" ]; then
    mkdir -p "$flake/data"
    for n in $(seq -w 0 999); do
        head -c 500000 /dev/zero | openssl enc -aes-128-ctr -K 00000000000000000000000000000000 -iv "$(printf %s "$n" | md5sum | cut -c 1-32)" \
            -out "$flake/data/f$n"
    done
    cat >"$flake/flake.nix" <<'NIX'
{
  outputs = { self, nixpkgs, mvm }:
    let
      names = builtins.attrNames (builtins.readDir ./data);
      paths = map (name: builtins.path { path = ./data + "/${name}"; inherit name; }) names;
      list = builtins.concatStringsSep "\n" (map (path: "${path}") paths);
    in {
      packages = builtins.mapAttrs (system: pkgs: {
        default = mvm.lib.${system}.mkGuest {
          name = "many";
          packages = [ (pkgs.writeText "list" list) ];
          command = [ "/bin/true" ];
        };
      }) nixpkgs.legacyPackages;
    };
}
NIX
fi
# Prints when each event comes, beside it.
stamped() { while IFS= read -r line; do printf '%s %s\n' "$EPOCHREALTIME" "$line"; done; }
# Imports into a copy of the store that has built the flake and imported nothing. What is collected between two imports instead is
# thousands of files, whose inodes ext4 passes over one by one for minutes: the next import pays for the collection.
import() {
    local into
    into=$(mktemp -d "$work/import.XXXXXX")
    cp -a --sparse=always "$store/." "$into"
    sync
    "$mvmctl" --root "$into" build --json --rebuild --offline --max-source 1g --flake "path:$flake" --override-input nixpkgs "path:$packages" \
        2>"$work/words" | stamped >"$work/events" || { tail -n 40 "$work/words" >&2; return 1; }
    awk '/"event":"closure"/ { begin = $1 } /"event":"assembling"/ { printf "%.3f\n", $1 - begin; exit }' "$work/events"
}
# Builds the flake in the store that is copied, and forgets what was made of it.
build_only() {
    "$mvmctl" --quiet --root "$store" build --offline --max-source 1g --flake "path:$flake" --override-input nixpkgs "path:$packages" >/dev/null
    "$mvmctl" --quiet --root "$store" image rm "flake:path:$flake" >/dev/null
    "$mvmctl" --quiet --root "$store" gc --budget 0 >/dev/null
}
wire() {
    # The guest's own clock: what its shell takes to start is not the wire's.
    "$mvmctl" --quiet --root "$store" builder shell --offline \
        sh -c 'cat /proc/uptime >&2; dd if=/dev/zero bs=1M count=477 2>/dev/null; cat /proc/uptime >&2' 2>"$work/clock" >/dev/null
    awk '/^[0-9.]+ [0-9.]+$/ { if (!begin) begin = $1; end = $1 } END { printf "%.3f\n", end - begin }' "$work/clock"
}
build_only
for _ in $(seq "$heavy"); do wire; done >"$work/wire"
for _ in $(seq "$heavy"); do import; done >"$work/import"
row 'the wire itself, 500 MB out of the builder' "$(median <"$work/wire")" s ''
row 'import of 1,000 paths, 500 MB' "$(median <"$work/import")" s ''
row 'import against the wire' "$(ratio "$(median <"$work/import")" "$(median <"$work/wire")")" x '<1.5'
