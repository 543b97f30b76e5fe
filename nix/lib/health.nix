# Health checks of a guest.
{ services, command }:
at: given:
let
  check = import ./check.nix;
  seconds = check.int 1 86400;

  service =
    at: value:
    if builtins.isString value && services ? ${value} then value
    else check.fail at "unknown service ${if builtins.isString value then "'${value}'" else check.describe value}; ${check.among "services" (builtins.attrNames services)}";

  checked = check.set {
    what = "health checks";
    most = 64;
    check = check.record {
      healthCmd = { check = command; };
      healthIntervalSecs = { check = seconds; default = 30; };
      healthTimeoutSecs = { check = seconds; default = 10; };
      startupGraceSecs = { check = check.int 0 86400; default = 0; };
      service = { check = check.nullOr service; default = "by name"; };
    };
  } at given;
in
# A check with the name of a service is about that, unless it says otherwise.
builtins.mapAttrs (
  name: it:
  it // { service = if it.service != "by name" then it.service else if services ? ${name} then name else null; }
) checked
