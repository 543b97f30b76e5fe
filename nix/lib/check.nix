# Checks of values. Each takes where a value is, for messages ("mkGuest 'web':" and an attribute path), and the value; it
# returns what is meant, or throws. Plain builtins, so that they mean the same with any nixpkgs.
let
  inherit (builtins) all attrNames concatStringsSep elem filter head isAttrs isBool isFloat isFunction isInt isList isPath
    isString length listToAttrs match stringLength substring toJSON toString typeOf;

  isTop = at: match ".*:" at != null;
  under = at: name: if isTop at then "${at} ${name}" else "${at}.${name}";
  fail = at: words: throw (if isTop at then "${at} ${words}" else "${at}: ${words}");

  isDerivation = value: isAttrs value && value ? type && value.type == "derivation";

  # A value in the words of a message.
  describe =
    value:
    let
      text = builtins.unsafeDiscardStringContext value;
      short = if stringLength text > 60 then substring 0 60 text + "…" else text;
    in
    if isString value then (if value == "" then "an empty string" else "the string ${toJSON short}")
    else if isDerivation value then "the derivation '${value.name or "?"}'"
    else if isAttrs value then "a set"
    else if isList value then "a list"
    else if isFunction value then "a function"
    else if isPath value then "the path ${toString value}"
    else if isInt value || isFloat value then "the number ${toString value}"
    else if isBool value then (if value then "true" else "false")
    else if value == null then "null"
    else "a ${typeOf value}";

  expected = at: what: value: fail at "expected ${what}, got ${describe value}";

  # "services are a, b".
  among = what: list: if list == [ ] then "there are no ${what}" else "${what} are ${concatStringsSep ", " list}";

  isName = value: isString value && match "[a-z0-9][a-z0-9_.-]{0,62}" value != null;
  isAccount = value: isString value && match "[a-z_][a-z0-9_-]{0,31}" value != null;
in
rec {
  inherit fail under isDerivation describe expected among isName;

  # The output of a package that has its programs, as lib.getBin has it.
  programs = package: "${if package.outputSpecified or false then package else package.bin or package.out or package}";


  string = at: value: if isString value then value else expected at "a string" value;

  # A name of guests, services and health checks; it becomes that of a VM and of control groups.
  name =
    at: value:
    if isName value then value
    else expected at "a name (1 to 63 of a-z, 0-9, '-', '_', '.', the first a letter or digit)" value;

  # A name of users and groups, useradd(8).
  account =
    at: value:
    if isAccount value then value
    else expected at "a name of a-z, 0-9, '-', '_' (32 at most, the first a letter or '_')" value;

  # RFC 1123 section 2.1, within what the kernel takes.
  hostname =
    at: value:
    let
      label = "[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?";
    in
    if isString value && stringLength value <= 63 && match "${label}(\\.${label})*" value != null then value
    else expected at "a host name (labels of letters, digits and inner '-' joined by '.', 63 at most)" value;

  # An absolute path in the guest; ':' and line ends would break passwd(5).
  path =
    at: value:
    if isString value && match "/[^:\n]*" value != null && match "(.*/)?\\.\\.(/.*)?" value == null then value
    else expected at "an absolute path as a string, without ':' and '..'" value;

  int =
    least: most: at: value:
    if isInt value && value >= least && value <= most then value
    else expected at "a whole number from ${toString least} to ${toString most}" value;

  enum =
    values: at: value:
    if elem value values then value
    else expected at "one of ${concatStringsSep ", " (map (v: "'${v}'") values)}" value;

  nullOr = check: at: value: if value == null then null else check at value;

  list =
    check: at: value:
    if isList value then builtins.genList (n: check "${at}[${toString n}]" (builtins.elemAt value n)) (length value)
    else expected at "a list" value;

  # A set whose names are free: `isKey` for each name, `check` for each value, `most` of them.
  set =
    { what, most, isKey ? name, check }:
    at: value:
    if !isAttrs value || isDerivation value then expected at "a set of ${what}" value
    else if length (attrNames value) > most then
      fail at "${toString (length (attrNames value))} ${what}; ${toString most} are allowed"
    else
      builtins.mapAttrs (n: v: builtins.seq (isKey at n) (check (under at n) v)) value;

  # A set whose names are given: `fields` has `{ check, default }` for each; without a default it is needed.
  record =
    fields: at: value:
    let
      unknown = filter (n: !(fields ? ${n})) (attrNames value);
      missing = filter (n: !(fields.${n} ? default) && !(value ? ${n})) (attrNames fields);
      field = n: {
        name = n;
        value = if value ? ${n} then fields.${n}.check (under at n) value.${n} else fields.${n}.default;
      };
    in
    if !isAttrs value || isDerivation value then expected at "a set of parameters" value
    else if unknown != [ ] then
      fail at "unknown parameter '${head unknown}'; ${among "parameters" (attrNames fields)}"
    else if missing != [ ] then
      fail at "parameter '${head missing}' is missing"
    else
      listToAttrs (map field (attrNames fields));

  # Variables of a process. Numbers are written as they are.
  variables =
    at: value:
    if !isAttrs value || isDerivation value then expected at "a set of variables" value
    else
      builtins.mapAttrs (
        n: v:
        if match "[^=[:space:][:cntrl:]]+" n == null then fail at "'${n}' can't be the name of a variable"
        else if isString v then v
        else if isInt v then toString v
        else expected (under at n) "a string or a whole number" v
      ) value;

  # Whether all of a list are different.
  distinct = list: all (v: length (filter (w: w == v) list) == 1) list;
}
