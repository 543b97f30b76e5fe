{
  description = "Guests of mvm: what a microVM runs, said in Nix";

  # Only for what a guest is made of by default: a shell, CA certificates. A flake that has a nixpkgs of its own lets this
  # one follow it.
  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-25.11";

  outputs =
    { self, nixpkgs }:
    let
      library = import ./lib;
      systems = library.systems;
      forEach = names: f: builtins.listToAttrs (map (name: { inherit name; value = f name; }) names);
    in
    {
      # mkGuest, mkPythonService, mkNodeService and mkStaticSite for each system.
      lib =
        forEach library.otherSystems library.unsupported
        // forEach systems (system: library.forSystem { inherit system; pkgs = nixpkgs.legacyPackages.${system}; });

      templates = import ./templates;
    };
}
