# mkNodeService: a guest that runs a Node.js program.
{ pkgs, guest }:
given:
let
  service = import ./service.nix { inherit pkgs guest; } "mkNodeService" given {
    src = service.source;
    entrypoint = service.file;
    port = service.port;
    nodejs = service.package (pkgs.nodejs or null);
    npmHash = service.text;
    buildPhase = service.text;
    pruneDevDeps = service.boolean true;
  };
  inherit (service) parameters check;
  inherit (parameters) npmHash buildPhase nodejs;

  # Dependencies are fetched, and the program is built, by nixpkgs; what is left lies as it does in the source.
  built = pkgs.buildNpmPackage {
    pname = parameters.name;
    version = "0";
    src = parameters.src;
    inherit nodejs;
    npmDepsHash = npmHash;
    npmFlags = [ "--ignore-scripts" "--legacy-peer-deps" ];
    dontNpmBuild = true;
    buildPhase = ''
      runHook preBuild
      export HOME=$TMPDIR
      TSC=node_modules/typescript/bin/tsc
      VITE=node_modules/vite/bin/vite.js
      ${if buildPhase == null then "npm run build --if-present" else buildPhase}
      runHook postBuild
    '';
    installPhase = ''
      runHook preInstall
      ${if parameters.pruneDevDeps then "npm prune --omit=dev --ignore-scripts --offline" else ""}
      mkdir -p $out
      cp -r . $out/
      runHook postInstall
    '';
  };
  app =
    if npmHash != null && npmHash != "" && !(pkgs ? buildNpmPackage) then
      check.fail "${service.at} npmHash" "needs buildNpmPackage, which this nixpkgs doesn't have"
    else if npmHash != null then "${built}"
    else if buildPhase != null then check.fail "${service.at} buildPhase" "needs npmHash: without it the source is run as it is"
    else service.app;
in
service.make {
  package = app;
  command = [ "${check.programs nodejs}/bin/node" "${app}/${parameters.entrypoint}" ];
  env.NODE_ENV = "production";
  packages = [ nodejs ];
}
