# Users of a guest, with the numbers and homes that they get.
{ serviceGroup }:
at: given:
let
  check = import ./check.nix;
  inherit (builtins) attrNames attrValues elem filter foldl' head mapAttrs toString;

  # The user and group that services have unless told otherwise.
  serviceId = 900;
  reserved = [ "root" "nobody" "nogroup" serviceGroup ];

  number =
    at: value:
    if value == serviceId then
      check.fail at "${toString serviceId} is the number of '${serviceGroup}', the user of services"
    else
      check.int 1 65533 at value;

  key =
    at: name:
    if name == serviceGroup then check.fail (check.under at name) "is there already: it is the user and group of services, number ${toString serviceId}"
    else if elem name reserved then check.fail (check.under at name) "is there already"
    else check.account at name;

  group =
    at: value:
    if value != serviceGroup && elem value reserved then check.fail at "'${value}' can't be a user's group"
    else check.account at value;

  checked = check.set {
    what = "users";
    most = 128;
    isKey = key;
    check = check.record {
      uid = { check = number; default = null; };
      group = { check = group; default = null; };
      home = { check = check.path; default = null; };
    };
  } at given;

  explicit = filter (uid: uid != null) (map (user: user.uid) (attrValues checked));
  withNumber = uid: filter (name: checked.${name}.uid == uid) (attrNames checked);
  twice = filter (uid: builtins.length (withNumber uid) > 1) explicit;

  # Those without a number get the lowest free ones from 1000, in order of name.
  free = n: if elem n explicit then free (n + 1) else n;
  numbered = foldl' (
    done: name:
    if checked.${name}.uid != null then
      done // { numbers = done.numbers // { ${name} = checked.${name}.uid; }; }
    else
      let n = free done.next; in { next = n + 1; numbers = done.numbers // { ${name} = n; }; }
  ) { next = 1000; numbers = { }; } (attrNames checked);

  groupOf = name: if checked.${name}.group == null then name else checked.${name}.group;

  # A group has the number of the user of its name, else of the first user that has it.
  groupNumber =
    group:
    if group == serviceGroup then serviceId
    else numbered.numbers.${group} or numbered.numbers.${head (filter (name: groupOf name == group) (attrNames checked))};
in
if twice != [ ] then
  check.fail "${at}.${builtins.elemAt (withNumber (head twice)) 1}.uid" "${toString (head twice)} is the number of '${head (withNumber (head twice))}' too"
else
  mapAttrs (name: user: {
    uid = numbered.numbers.${name};
    group = groupOf name;
    gid = groupNumber (groupOf name);
    home = if user.home == null then "/home/${name}" else user.home;
  }) checked
