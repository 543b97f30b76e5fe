# A build of what has not changed: no VM starts.
say 'flakes'
store=$work/flakes
if [ -f "$kernel" ]; then which=$kernel; else which=.cache/packages/linux-image-cloud-amd64; fi
packages=$(nix/testing/prepare)
"$mvmctl" --quiet --root "$store" kernel import "$which" >/dev/null
"$mvmctl" --quiet --root "$store" builder init >/dev/null
build=("$mvmctl" --quiet --root "$store" build --offline --flake path:examples/hello --override-input nixpkgs "path:$packages")
"${build[@]}" >/dev/null
row 'build of an unchanged flake' "$(timed $((runs * 2)) "$work/nothing" "${build[*]}" | awk '{ print $1 * 1000 }')" ms '<150'
