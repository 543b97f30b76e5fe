{
  description = "A guest with something of everything, to be looked at from inside";

  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-25.11";
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
            name = "contract";
            packages = [ (pkgs.writeShellScriptBin "greet" "echo greetings from a package") ];
            env.EVERYWHERE = "yes";

            users.alice = { };
            users.bob = { uid = 2000; home = "/srv/bob"; };
            users.carol.group = "bob";

            services.defaults.command = "id; greet; echo \"$EVERYWHERE in $PWD\"; exec sleep 100000";

            # Ends once, so that it is started twice; what comes before its start would fail a second time.
            services.twice = {
              preStart = "echo \"as $(id -u)\" >> /var/prepared; mkdir /run/twice && chown alice /run/twice";
              command = "mkdir /run/twice/once 2>/dev/null && exit 3; id; env; exec sleep 100000";
              env = { A = "b c"; N = 7; };
              user = "alice";
              after = [ "defaults" ];
            };

            services.file = {
              command = "echo words for the file; exec sleep 100000";
              user = "bob";
              logFile = "/var/log/file.log";
            };

            services.secret.command = ''
              cat /mnt/secrets/token
              touch /mnt/secrets/new 2>/dev/null || echo secrets are read-only
              touch /mnt/config/new 2>/dev/null || echo configuration is read-only
              exec sleep 100000
            '';

            healthChecks.defaults.healthCmd = "id -un";
            healthChecks.late = { healthCmd = "echo failed >> /tmp/late; exit 1"; healthIntervalSecs = 1; startupGraceSecs = 3600; };
            healthChecks.never = { healthCmd = "exit 5"; healthIntervalSecs = 1; };
            healthChecks.slow = { healthCmd = "sleep 1000 & exec sleep 1000"; healthIntervalSecs = 1; healthTimeoutSecs = 1; };
          };
        }
      );
    };
}
