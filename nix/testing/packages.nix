# The packages and builders. Scripts are run by busybox: what is written for these works with nixpkgs' bash and coreutils too,
# but not the other way round.
directory:
let
  sources = builtins.fromJSON (builtins.readFile (directory + "/sources.json"));
  inherit (sources) system;
  lib = import ./lib.nix;

  # A path with a digest is not read again once it is in the store.
  file = name: digest: builtins.path { path = directory + "/${name}"; inherit name; recursive = false; sha256 = digest; };
  boot = builtins.path { path = directory + "/boot"; name = "boot"; };

  # A derivation whose script runs with PATH and `out`, and packages' attributes beside it.
  make =
    { name, path ? "${busybox}/bin", environment ? { }, meta ? { }, passthru ? { } }: script:
    derivation (
      environment
      // {
        inherit name system;
        builder = "${boot}/sh";
        args = [ "-euc" ". \"$buildCommandPath\"" ];
        buildCommand = script;
        passAsFile = [ "buildCommand" ] ++ environment.passAsFile or [ ];
        PATH = path;
      }
    )
    // { inherit meta; }
    // passthru;

  package =
    { pname, version, program, path ? "${busybox}/bin", passthru ? { } }:
    make {
      name = "${pname}-${version}";
      inherit path;
      meta.mainProgram = program;
      passthru = { inherit pname version; } // passthru;
    };

  busybox = package {
    pname = "busybox";
    inherit (sources.busybox) version;
    program = "busybox";
    path = "/no-such-path";
    passthru.shellPath = "/bin/ash";
  } ''
    ${boot}/busybox mkdir -p $out/bin
    ${boot}/busybox cp ${boot}/busybox $out/bin/busybox
    $out/bin/busybox --install -s $out/bin
  '';

  bash = package {
    pname = "bash";
    inherit (sources.bash) version;
    program = "bash";
    passthru.shellPath = "/bin/bash";
  } ''
    mkdir -p $out/bin
    cp ${file "bash" sources.bash.sha256} $out/bin/bash
    chmod 555 $out/bin/bash
    ln -s bash $out/bin/sh
  '';

  cacert = make {
    name = "nss-cacert-${sources.cacert.version}";
    passthru = { pname = "nss-cacert"; inherit (sources.cacert) version; };
  } ''
    mkdir -p $out/etc/ssl/certs
    cp ${file "ca-bundle.crt" sources.cacert.sha256} $out/etc/ssl/certs/ca-bundle.crt
  '';

  python3 = package {
    pname = "python3";
    inherit (sources.python) version;
    program = "python3";
    passthru.withPackages = select: if select { } == [ ] then python3 else throw "the stand-in for nixpkgs has no packages of Python";
  } ''
    mkdir $out
    tar -xzf ${file "python.tar.gz" sources.python.sha256} -C $out
    # The loader's path in the program is as long as the one that is meant.
    own=$out/lib/${baseNameOf sources.python.interpreter}
    [ ''${#own} = ${toString (builtins.stringLength sources.python.interpreter)} ]
    printf %s "$own" | dd of=$out/bin/${sources.python.program} bs=1 seek=${toString sources.python.offset} conv=notrunc 2>/dev/null
    $out/bin/python3 -c 'import http.server, json'
  '';

  writeTextFile =
    { name, text, executable ? false, destination ? "", meta ? { } }:
    make {
      inherit name;
      environment = { inherit text destination; passAsFile = [ "text" ]; executable = if executable then "1" else ""; };
      meta = (if destination == "/bin/${name}" then { mainProgram = name; } else { }) // meta;
      passthru = { inherit executable; };
    } ''
      mkdir -p "$(dirname "$out$destination")"
      cp "$textPath" "$out$destination"
      ${if executable then "chmod 555 \"$out$destination\"" else ""}
    '';
  runtimeShell = "${bash}/bin/bash";
  withShell = text: "#!${runtimeShell}\n${text}\n";
in
{
  inherit lib system busybox bash cacert python3 runtimeShell writeTextFile;
  bashInteractive = bash;
  coreutils = busybox;
  gnugrep = busybox;
  gnused = busybox;
  gawk = busybox;
  findutils = busybox;

  writeText = name: text: writeTextFile { inherit name text; };
  writeScript = name: text: writeTextFile { inherit name text; executable = true; };
  writeScriptBin = name: text: writeTextFile { inherit name text; executable = true; destination = "/bin/${name}"; };
  writeShellScript = name: text: writeTextFile { inherit name; executable = true; text = withShell text; };
  writeShellScriptBin =
    name: text: writeTextFile { inherit name; executable = true; destination = "/bin/${name}"; text = withShell text; };
  runCommand = name: environment: script: make {
    inherit name;
    environment = builtins.removeAttrs environment [ "meta" "passthru" ];
    meta = environment.meta or { };
    passthru = environment.passthru or { };
  } script;
}
