# What the flake offers for each system.
let
  systems = [ "x86_64-linux" "aarch64-linux" ];
in
{
  inherit systems;

  # Systems that flakes commonly enumerate. They have the same functions, which say what is wrong when they are called.
  otherSystems = [ "aarch64-darwin" "armv7l-linux" "i686-linux" "powerpc64le-linux" "riscv64-linux" "x86_64-darwin" ];

  forSystem =
    { system, pkgs }:
    let
      guest = import ./guest.nix { inherit system pkgs; };
      service = file: import file { inherit pkgs guest; };
    in
    {
      mkGuest = guest;
      mkPythonService = service ./python.nix;
      mkNodeService = service ./node.nix;
      mkStaticSite = service ./static.nix;
    };

  unsupported =
    system:
    let
      refuse = name: _: throw "mvm.lib.${system}.${name}: there are no guests of this system; systems are ${builtins.concatStringsSep ", " systems}";
    in
    builtins.listToAttrs (
      map (name: { inherit name; value = refuse name; }) [ "mkGuest" "mkPythonService" "mkNodeService" "mkStaticSite" ]
    );
}
