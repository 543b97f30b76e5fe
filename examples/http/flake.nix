{
  description = "A Python service in a microVM";

  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-25.11";
    # mvmctl puts the library that it carries in the place of this.
    mvm.url = "github:mvm-sh/mvm?dir=nix";
    mvm.inputs.nixpkgs.follows = "nixpkgs";
  };

  outputs =
    { nixpkgs, mvm, ... }:
    {
      packages = nixpkgs.lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] (system: {
        default = mvm.lib.${system}.mkPythonService {
          name = "http";
          src = ./app;
          entrypoint = "main.py";
          port = 8080;
          env.GREETING = "hello";
          # Packages of Python: pythonPackages = ps: [ ps.flask ];
        };
      });
    };
}
