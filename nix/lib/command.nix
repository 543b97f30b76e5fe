# What may be given as a command, and what becomes of it: a text for `sh -c`, or a list of a program and its arguments.
{ shell }:
let
  check = import ./check.nix;
  inherit (builtins) head isAttrs isInt isList isPath isString length match tail toString;

  # The file that a derivation is to be run as.
  program =
    at: value:
    if value ? meta && value.meta ? mainProgram then
      "${check.programs value}/bin/${value.meta.mainProgram}"
    # writeScript and writeShellScript: the output is the script itself.
    else if (value.executable or false) != false && (value.destination or "") == "" then
      "${value}"
    else
      check.fail at ''${check.describe value} doesn't say which of its programs is meant (it has no meta.mainProgram): write "''${…}/bin/PROGRAM", or lib.getExe' … "PROGRAM"'';

  argument =
    at: value:
    if isString value then value
    else if isInt value then toString value
    else if isPath value || check.isDerivation value then "${value}"
    else check.expected at "a string, a whole number or a path" value;

  arguments =
    at: value:
    let
      first = if check.isDerivation (head value) then program "${at}[0]" (head value) else argument "${at}[0]" (head value);
    in
    if value == [ ] then check.fail at "expected a program and its arguments, got an empty list"
    else if first == "" then check.fail "${at}[0]" "expected a program, got an empty string"
    else [ first ] ++ tail (check.list argument at ([ "" ] ++ tail value));
in
at: value:
if isList value then arguments at value
else if check.isDerivation value then [ (program at value) ]
else if isPath value then [ "${value}" ]
else if !isString value then check.expected at "a command (a text for sh, or a list of a program and its arguments)" value
else if match "[[:space:]]*" value != null then check.fail at "expected a command, got ${check.describe value}"
else if shell == null then
  check.fail at "a text is run by a shell, and 'shell' is null: write a list of a program and its arguments, or give 'shell' a package"
else value
