# One gzip layer of a distribution: against skopeo + umoci + mkfs.erofs, against the fastest download and decompressor,
# and against microsandbox.
msb_version=0.7.11

# Installs microsandbox from PyPI into a directory of its own, once; sets msb, or why_not.
microsandbox() {
    local venv=$cache/microsandbox-$msb_version words
    msb= why_not=
    if [ ! -e "$venv/.complete" ]; then
        rm -rf "$venv"
        words=$({ python3 -m venv "$venv" && "$venv/bin/pip" install --quiet --disable-pip-version-check \
            "microsandbox==$msb_version" && touch "$venv/.complete"; } 2>&1) || { why_not=$(tail -n 1 <<<"$words"); return 0; }
    fi
    # The program itself, without the Python that starts it; where the package has none, that.
    msb=$(find "$venv/lib" -path '*/_bundled/bin/msb' -type f | head -n 1)
    msb=${msb:-$venv/bin/msb}
    "$msb" --version >/dev/null 2>&1 || { why_not="$msb does not run" msb=; }
}

say 'an image of one gzip layer'
debian_layout
push "$work/layout" debian
layer=$(skopeo --insecure-policy inspect --tls-verify=false "docker://$image" | sed -n 's/^ *"\(sha256:[0-9a-f]*\)"$/\1/p' | head -n 1)
entries=$(tar -tf "$tar" | wc -l)
blob=$work/registry/docker/registry/v2/blobs/sha256/${layer:7:2}/${layer#sha256:}/data
printf 'layer %s MB, tar %s MB, %s entries, %s CPUs, %s\n' $(($(stat -c %s "$blob") / 1000000)) $(($(stat -c %s "$tar") / 1000000)) \
    "$entries" "$(nproc)" "$(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1)"

say 'pull against peers'
write_peers
cat >"$work/floor" <<END
#!/bin/sh -e
curl -sf http://127.0.0.1:$registry_port/v2/bench/debian/blobs/$layer | igzip -dc >/dev/null
END
chmod +x "$work/floor"
peers=$(timed "$runs" "$work/p" "$work/peers")
aside "$work/p"
floor=$(timed "$runs" "$work/p" "$work/floor")
pull=$(timed "$runs" "$work/store" "$mvmctl --quiet --root $work/store pull $image")
row 'skopeo + umoci + mkfs.erofs' "$(printf %.2f "$peers")" s ''
row 'curl | igzip -dc >/dev/null' "$(printf %.2f "$floor")" s ''
row 'mvmctl pull to finished image, fsync included' "$(printf %.2f "$pull")" s ''
row '  times faster than the peers' "$(ratio "$peers" "$pull")" x '>8'
row '  times the time of curl | igzip' "$(ratio "$pull" "$floor")" x '<2'
microsandbox
if [ -n "$msb" ]; then
    # Its images and database are below $HOME.
    mkdir "$work/msb"
    printf '#!/bin/sh -e\nHOME=%s exec %s pull --quiet --insecure %s\n' "$work/msb" "$msb" "$image" >"$work/msb-pull"
    chmod +x "$work/msb-pull"
    if msb_time=$(timed "$runs" "$work/msb/.microsandbox" "$work/msb-pull"); then
        row "microsandbox $msb_version: msb pull" "$(printf %.2f "$msb_time")" s ''
        row '  times faster than microsandbox' "$(ratio "$msb_time" "$pull")" x '>2'
    else
        row "microsandbox $msb_version: msb pull" - '' '>2' "SKIP: msb pull failed"
    fi
    aside "$work/msb"
else
    row "microsandbox $msb_version: msb pull" - '' '>2' "SKIP: $why_not"
fi
peak_row "$image" "$entries"
aside "$work/store"
