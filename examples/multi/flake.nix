{
  description = "Two services, users, a secret and health checks in one microVM";

  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-25.11";
    # mvmctl puts the library that it carries in the place of this.
    mvm.url = "github:mvm-sh/mvm?dir=nix";
    mvm.inputs.nixpkgs.follows = "nixpkgs";
  };

  # mvmctl build --flake . -t multi
  # mvmctl run -d -p 8080:8080 --secret token=token -v counter:/mnt/data multi
  # curl -H "Authorization: Bearer $(cat token)" http://127.0.0.1:8080/
  outputs =
    { nixpkgs, mvm, ... }:
    {
      packages = nixpkgs.lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] (
        system:
        let
          pkgs = nixpkgs.legacyPackages.${system};
          python = nixpkgs.lib.getExe pkgs.python3;
        in
        {
          default = mvm.lib.${system}.mkGuest {
            name = "multi";
            packages = [ pkgs.python3 ];
            env.PYTHONUNBUFFERED = "1";

            users.counter = { };
            users.web = { };

            # Counts, for whoever is in the group of services; what it counts outlives the VM where /mnt/data is a volume.
            services.counter = {
              preStart = ''
                mkdir -p /mnt/data /run/counter
                chown counter:mvm /mnt/data /run/counter
                chmod 0750 /mnt/data /run/counter
              '';
              command = [ python ./app/counter.py ];
              user = "counter";
              limits.memoryMiB = 128;
            };

            # Asks it for everyone who knows the secret.
            services.web = {
              after = [ "counter" ];
              command = [ python ./app/web.py ];
              env.PORT = 8080;
              user = "web";
            };

            healthChecks.counter = {
              healthCmd = "test -S /run/counter/socket";
              healthIntervalSecs = 10;
            };
            healthChecks.web = {
              healthCmd = "wget -q -O /dev/null http://127.0.0.1:8080/health";
              healthIntervalSecs = 10;
              healthTimeoutSecs = 5;
              startupGraceSecs = 20;
            };
          };
        }
      );
    };
}
