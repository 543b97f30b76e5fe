{
  description = "A stand-in for nixpkgs: a few packages of Debian as store paths, for builds without a network";

  outputs =
    { self }:
    let
      packages = import ./packages.nix ./.;
    in
    {
      lib = packages.lib;
      legacyPackages.${packages.system} = packages;
    };
}
