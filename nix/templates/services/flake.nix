{
  description = "Services in a microVM";

  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-25.11";
    # mvmctl puts the library that it carries in the place of this.
    mvm.url = "github:mvm-sh/mvm?dir=nix";
    mvm.inputs.nixpkgs.follows = "nixpkgs";
  };

  outputs =
    { nixpkgs, mvm, ... }:
    {
      packages = nixpkgs.lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] (
        system:
        let
          pkgs = nixpkgs.legacyPackages.${system};
        in
        {
          default = mvm.lib.${system}.mkGuest {
            name = "app";
            # What is on the PATH.
            packages = [ pkgs.coreutils ];

            # Services never run as root; without `user` they run as the user mvm.
            users.app = { };

            services.app = {
              # Runs once, as root, before the service first starts.
              preStart = "mkdir -p /run/app && date > /run/app/index.html && chown -R app:app /run/app";
              command = "exec httpd -f -p 8080 -h /run/app";
              user = "app";
              env.COLOUR = "green";
            };

            healthChecks.app = {
              healthCmd = "wget -q -O /dev/null http://127.0.0.1:8080/";
              healthIntervalSecs = 10;
            };
          };
        }
      );
    };
}
