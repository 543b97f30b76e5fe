# mkGuest: checks the parameters of a guest and writes them down, with the store paths that they refer to, as one file.
# The closure of that file is the guest's root; mvm makes the image of it.
{ system, pkgs }:
given:
let
  check = import ./check.nix;
  inherit (builtins) elem filter isAttrs isString match stringLength toJSON;

  # Messages begin with which guest they are about; a flake may have many.
  at = if isAttrs given && !check.isDerivation given && given ? name && check.isName given.name then "mkGuest '${given.name}':" else "mkGuest:";

  set = if isAttrs given && !check.isDerivation given then given else check.expected at "a set of parameters" given;
  packageSet = set.pkgs or pkgs;

  # A cross-compiled package has the builder's system, and what it runs on in its stdenv.
  isForeign =
    value: value ? system && value.system != system && (value.stdenv.hostPlatform.system or value.system) != system;

  package =
    at: value:
    if check.isDerivation value then
      if isForeign value then check.fail at "${check.describe value} is for ${value.system}, the guest is ${system}"
      else { path = check.programs value; pname = value.pname or ""; }
    else if isString value && match "/nix/store/[^/]+" value != null then { path = value; pname = ""; }
    else check.expected at "a package" value;

  packageOrNull = at: value: builtins.seq (check.nullOr package at value) value;

  parameters = {
    name = { check = check.name; };
    pkgs = { check = _: value: value; default = pkgs; };
    packages = { check = check.list package; default = [ ]; };
    hostname = { check = check.hostname; default = null; };
    serviceGroup = { check = _: value: value; default = null; };
    users = { check = _: value: value; default = null; };
    services = { check = _: value: value; default = null; };
    healthChecks = { check = _: value: value; default = null; };
    rootfsType = { check = check.enum [ "erofs" "squashfs" "ext4" ]; default = "erofs"; };
    command = { check = check.nullOr command; default = null; };
    env = { check = check.variables; default = { }; };
    shell = { check = packageOrNull; default = packageSet.busybox or null; };
    cacert = { check = packageOrNull; default = packageSet.cacert or null; };
  };
  # Parameters that need no others; the rest is checked below.
  plain = check.record parameters at set;

  shell = plain.shell;
  hasShell = shell != null;
  command = import ./command.nix { inherit shell; };

  serviceGroup =
    let
      value = set.serviceGroup or "mvm";
    in
    if elem value [ "root" "nobody" "nogroup" ] then check.fail "${at} serviceGroup" "'${value}' can't be the group of services"
    else check.account "${at} serviceGroup" value;
  users = import ./users.nix { inherit serviceGroup; } "${at} users" (set.users or { });
  services = import ./services.nix { inherit serviceGroup users command; } "${at} services" (set.services or { });
  healthChecks = import ./health.nix { inherit services command; } "${at} healthChecks" (set.healthChecks or { });

  hostname =
    if plain.hostname != null then plain.hostname
    else if (builtins.tryEval (check.hostname "" plain.name)).success then plain.name
    else check.fail "${at} hostname" "is needed, since the name '${plain.name}' can't be a host name";

  # The shell's own programs come last on the PATH: packages go before them.
  isShell = package: hasShell && package.path == shellPackage.path;
  shellPackage = package at shell;
  all = plain.packages ++ (if hasShell && filter isShell plain.packages == [ ] then [ shellPackage ] else [ ]);

  # Packages that have env(1).
  withEnv = filter (package: elem package.pname [ "busybox" "coreutils" "coreutils-full" ]) all;

  document = {
    schema = "mvm.guest.v1";
    inherit (plain) name rootfsType command;
    inherit hostname system serviceGroup users services healthChecks;
    packages = map (package: package.path) all;
    variables = plain.env;
    shell = if hasShell then "${shellPackage.path}${shell.shellPath or "/bin/sh"}" else null;
    env = if withEnv == [ ] then null else "${(builtins.head withEnv).path}/bin/env";
    caBundle =
      if plain.cacert == null then null
      else if isString plain.cacert then "${plain.cacert}/etc/ssl/certs/ca-bundle.crt"
      else "${plain.cacert.out or plain.cacert}/etc/ssl/certs/ca-bundle.crt";
  };
  text = toJSON document;
  most = 1024 * 1024;
in
if stringLength text > most then
  check.fail at "the guest takes ${toString (stringLength text)} bytes to describe, ${toString most} are allowed: put long texts into files"
else
  packageSet.writeText "mvm-guest-${plain.name}.json" text // { guest = document; }
