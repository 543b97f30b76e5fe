# What mkPythonService, mkNodeService and mkStaticSite have in common: parameters, the health check of a port, and the guest
# of one service. The result is that guest, and `package`, `service` and `healthCheck` to put into another.
{ pkgs, guest }:
kind: given: own:
let
  check = import ./check.nix;
  inherit (builtins) elemAt isAttrs isBool isFunction isPath isString match;

  at = if isAttrs given && given ? name && check.isName given.name then "${kind} '${given.name}':" else "${kind}:";

  parameters = check.record (
    own
    // {
      name = { check = check.name; };
      env = { check = check.variables; default = { }; };
      # Checked by mkGuest, where users are known.
      user = { check = check.nullOr check.string; default = null; };
    }
  ) at given;

  # The source as a store path of its own, so that a change of other files of the flake leaves it as it is.
  app =
    if isPath parameters.src then builtins.path { path = parameters.src; name = "${parameters.name}-app"; }
    else "${parameters.src}";

  busybox =
    if pkgs ? busybox then "${check.programs pkgs.busybox}"
    else check.fail at "needs busybox, which this nixpkgs doesn't have";

  # Ports in /proc/net/tcp are four hexadecimal digits.
  digits = [ "0" "1" "2" "3" "4" "5" "6" "7" "8" "9" "A" "B" "C" "D" "E" "F" ];
  hex = n: count: if count == 0 then "" else hex (n / 16) (count - 1) + elemAt digits (n - n / 16 * 16);
in
{
  inherit at check parameters app busybox;

  # Parameters for `own`.
  source = {
    check =
      at: value:
      if isPath value || check.isDerivation value || (isString value && match "/nix/store/.+" value != null)
        || (isAttrs value && value ? outPath)
      then value
      else check.expected at "a path, as ./src, or a package" value;
  };
  file = {
    check =
      at: value:
      if isString value && match "[^/].*" value != null && match "(.*/)?\\.\\.(/.*)?" value == null then value
      else check.expected at "a file's path within src" value;
  };
  port = { check = check.int 1 65535; };
  text = { check = check.nullOr check.string; default = null; };
  function = {
    check = at: value: if isFunction value || value == null then value else check.expected at "a function from packages to a list of them" value;
    default = null;
  };
  boolean = default: {
    check = at: value: if isBool value then value else check.expected at "true or false" value;
    inherit default;
  };
  package = default: {
    check = at: value: if check.isDerivation value then value else check.expected at "a package" value;
  } // (if default == null then { } else { inherit default; });

  make =
    { command, env ? { }, packages ? [ ], package ? app }:
    let
      service = {
        inherit command;
        env = env // parameters.env;
      } // (if parameters.user == null then { } else { inherit (parameters) user; });

      # Something listens on the port.
      healthCheck = {
        healthCmd = [ "${busybox}/bin/grep" "-qs" ":${hex parameters.port 4} [0-9A-F]*:0000 0A" "/proc/net/tcp" "/proc/net/tcp6" ];
        healthIntervalSecs = 10;
        healthTimeoutSecs = 5;
      };
      user = parameters.user;
    in
    guest {
      inherit (parameters) name;
      inherit packages;
      services.${parameters.name} = service;
      healthChecks.${parameters.name} = healthCheck;
      users = if user == null || user == "mvm" then { } else { ${user} = { }; };
    }
    // {
      inherit package service healthCheck;
    };
}
