# Services of a guest.
{ serviceGroup, users, command }:
at: given:
let
  check = import ./check.nix;
  inherit (builtins) attrNames concatStringsSep elem filter head mapAttrs;

  accounts = attrNames users ++ [ serviceGroup ];

  user =
    at: value:
    if value == "root" || value == 0 then check.fail at "services never run as root; what needs it goes into preStart"
    else if elem value accounts then value
    else check.fail at "unknown user ${if builtins.isString value then "'${value}'" else check.describe value}; ${check.among "users" accounts}";

  after =
    at: value:
    let
      names = check.list check.string at value;
      unknown = filter (name: !(given ? ${name})) names;
    in
    if unknown != [ ] then
      check.fail at "unknown service '${head unknown}'; ${check.among "services" (attrNames given)}"
    else if !check.distinct names then check.fail at "names a service twice"
    else names;

  checked = check.set {
    what = "services";
    most = 64;
    check = check.record {
      command = { check = command; };
      preStart = { check = check.nullOr command; default = null; };
      env = { check = check.variables; default = { }; };
      user = { check = user; default = serviceGroup; };
      logFile = { check = check.path; default = "/dev/console"; };
      after = { check = after; default = [ ]; };
      restart = { check = check.enum [ "always" "on-failure" "never" ]; default = "always"; };
      stopGraceSecs = { check = check.int 0 86400; default = 10; };
      limits = {
        check = check.record {
          memoryMiB = { check = check.nullOr (check.int 1 16777216); default = null; };
          pids = { check = check.nullOr (check.int 1 4194304); default = null; };
          cpuPercent = { check = check.nullOr (check.int 1 100000); default = null; };
        };
        default = { memoryMiB = null; pids = null; cpuPercent = null; };
      };
    };
  } at given;

  # Services that wait for each other in a circle, from `name` on, or null.
  circle =
    seen: name:
    if elem name seen then seen ++ [ name ]
    else
      let
        found = filter (c: c != null) (map (circle (seen ++ [ name ])) checked.${name}.after);
      in
      if found == [ ] then null else head found;
  circles = filter (c: c != null && head c == builtins.elemAt c (builtins.length c - 1)) (
    map (circle [ ]) (attrNames checked)
  );
in
if circles != [ ] then
  check.fail "${at}.${head (head circles)}.after" "services wait for each other: ${concatStringsSep " → " (head circles)}"
else
  checked
