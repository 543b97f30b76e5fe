# mkPythonService: a guest that runs a Python program.
{ pkgs, guest }:
given:
let
  service = import ./service.nix { inherit pkgs guest; } "mkPythonService" given {
    src = service.source;
    entrypoint = service.file;
    port = service.port;
    python = service.package (pkgs.python3 or null);
    pythonPackages = service.function;
  };
  inherit (service) parameters check;
  python =
    if parameters.pythonPackages == null then parameters.python
    else if parameters.python ? withPackages then parameters.python.withPackages parameters.pythonPackages
    else check.fail "${service.at} python" "${check.describe parameters.python} has no withPackages, which pythonPackages needs";
in
service.make {
  command = [ "${check.programs python}/bin/python3" "${service.app}/${parameters.entrypoint}" ];
  # What a service prints is to be seen when it is printed.
  env.PYTHONUNBUFFERED = "1";
  packages = [ python ];
}
