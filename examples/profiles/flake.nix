{
  description = "One program as two profiles, and a tenant's own";

  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-25.11";
    # mvmctl puts the library that it carries in the place of this.
    mvm.url = "github:mvm-sh/mvm?dir=nix";
    mvm.inputs.nixpkgs.follows = "nixpkgs";
  };

  # mvmctl build --flake . --profile dev; without --profile it is `default`.
  outputs =
    { nixpkgs, mvm, ... }:
    {
      packages = nixpkgs.lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] (
        system:
        let
          pkgs = nixpkgs.legacyPackages.${system};
          inherit (nixpkgs.lib) optionals;

          guest =
            { profile, tools ? false }:
            mvm.lib.${system}.mkGuest {
              name = "profiles-${profile}";
              hostname = "profiles";
              packages = optionals tools [ pkgs.bash pkgs.python3 ];
              services.site = {
                command = "exec httpd -f -p 8080 -h ${./app}";
                env.PROFILE = profile;
              };
              healthChecks.site.healthCmd = "wget -q -O /dev/null http://127.0.0.1:8080/";
            };
        in
        rec {
          default = prod;
          prod = guest { profile = "prod"; };
          # With a shell for people and what it takes to look around.
          dev = guest { profile = "dev"; tools = true; };
          tenant-blue = guest { profile = "blue"; };
        }
      );
    };
}
