# mkStaticSite: a guest that serves files over HTTP, by busybox.
{ pkgs, guest }:
given:
let
  service = import ./service.nix { inherit pkgs guest; } "mkStaticSite" given {
    src = service.source;
    port = service.port // { default = 8080; };
  };
in
service.make {
  command = [ "${service.busybox}/bin/busybox" "httpd" "-f" "-p" service.parameters.port "-h" service.app ];
}
