# Packages as nixpkgs shapes them, of which only names are asked.
let
  make = attributes: derivation ({ system = "x86_64-linux"; builder = "/bin/sh"; } // attributes);
in
rec {
  writeText = name: text: make { inherit name text; };
  busybox = make { name = "busybox-1"; } // { pname = "busybox"; shellPath = "/bin/ash"; meta.mainProgram = "busybox"; };
  bash = make { name = "bash-5"; } // { pname = "bash"; shellPath = "/bin/bash"; };
  cacert = make { name = "nss-cacert-1"; outputs = [ "out" "unbundled" ]; } // { pname = "nss-cacert"; };
  hello = make { name = "hello-2"; } // { pname = "hello"; meta.mainProgram = "hello"; };
  # The first output is not the one with programs.
  curl = make { name = "curl-8"; outputs = [ "dev" "bin" "out" ]; } // { pname = "curl"; meta.mainProgram = "curl"; };
  coreutils = make { name = "coreutils-9"; } // { pname = "coreutils"; };
  quiet = make { name = "quiet-1"; } // { meta = { }; };
  script = make { name = "script"; executable = true; destination = ""; };
  foreign = make { name = "foreign-1"; system = "aarch64-linux"; };
  cross = make { name = "cross-1"; system = "x86_64-darwin"; } // { stdenv.hostPlatform.system = "x86_64-linux"; };
  python3 = make { name = "python3-3"; } // { pname = "python3"; withPackages = f: make { name = "python3-with-${toString (f { a = "a"; })}"; }; };
  nodejs = make { name = "nodejs-22"; };
}
