# What `mvmctl flake init` and `nix flake init -t` begin a project with.
rec {
  default = static;
  static = { path = ./static; description = "Files served over HTTP"; };
  python = { path = ./python; description = "A Python service"; };
  services = { path = ./services; description = "Services, users and health checks of your own"; };
}
