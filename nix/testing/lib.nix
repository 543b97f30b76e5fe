# The functions of nixpkgs' lib that flakes for guests commonly use, with the same meaning.
builtins
// rec {
  getOutput = output: package: if package.outputSpecified or false then package else package.${output} or package.out or package;
  getBin = getOutput "bin";
  getLib = getOutput "lib";
  getExe' = package: program: "${getBin package}/bin/${program}";
  getExe =
    package:
    getExe' package (
      package.meta.mainProgram or (throw "getExe: '${package.name}' has no meta.mainProgram")
    );

  optional = condition: value: if condition then [ value ] else [ ];
  optionals = condition: values: if condition then values else [ ];
  optionalString = condition: text: if condition then text else "";
  optionalAttrs = condition: set: if condition then set else { };

  nameValuePair = name: value: { inherit name value; };
  genAttrs = names: f: builtins.listToAttrs (map (name: nameValuePair name (f name)) names);
  filterAttrs =
    keep: set: builtins.removeAttrs set (builtins.filter (name: !keep name set.${name}) (builtins.attrNames set));
  mapAttrsToList = f: set: map (name: f name set.${name}) (builtins.attrNames set);
  mapAttrs' = f: set: builtins.listToAttrs (mapAttrsToList f set);

  concatMapStringsSep = separator: f: list: builtins.concatStringsSep separator (map f list);
  concatStrings = builtins.concatStringsSep "";
  makeBinPath = packages: concatMapStringsSep ":" (package: "${getBin package}/bin") packages;
  hasPrefix = prefix: text: builtins.substring 0 (builtins.stringLength prefix) text == prefix;
  escapeShellArg = value: "'${builtins.replaceStrings [ "'" ] [ "'\\''" ] (toString value)}'";
  escapeShellArgs = concatMapStringsSep " " escapeShellArg;
}
