# What mkGuest and the functions around it refuse, in which words, and what they make of what they take. Evaluated by the
# system tests with each Nix that there is: `errors.NAME.value` must throw `errors.NAME.says`, `documents` must be empty.
let
  pkgs = import ./packages.nix;
  library = import ../lib;
  lib = library.forSystem { system = "x86_64-linux"; inherit pkgs; };
  inherit (lib) mkGuest mkPythonService mkNodeService mkStaticSite;

  # The guest 'g' with these parameters, which must be refused with these words behind its name.
  refused = parameters: says: {
    value = (mkGuest ({ name = "g"; } // parameters)).guest;
    says = "mkGuest 'g': ${says}";
  };
  service = parameters: says: refused { services.s = { command = "x"; } // parameters; } "services.s${says}";
  user = parameters: says: refused { users.u = parameters; } "users.u${says}";
  check = parameters: says: refused { healthChecks.h = { healthCmd = "x"; } // parameters; } "healthChecks.h${says}";
  many = n: builtins.listToAttrs (builtins.genList (i: { name = "n${toString i}"; value = { command = "x"; }; }) n);

  aName = "a name (1 to 63 of a-z, 0-9, '-', '_', '.', the first a letter or digit)";
  anAccount = "a name of a-z, 0-9, '-', '_' (32 at most, the first a letter or '_')";
  aPath = "an absolute path as a string, without ':' and '..'";
  aCommand = "a command (a text for sh, or a list of a program and its arguments)";
in
{
  errors = {
    notASet = { value = (mkGuest "g").guest; says = "mkGuest: expected a set of parameters, got the string \"g\""; };
    aPackage = { value = (mkGuest pkgs.hello).guest; says = "mkGuest: expected a set of parameters, got the derivation 'hello-2'"; };
    noName = { value = (mkGuest { }).guest; says = "mkGuest: parameter 'name' is missing"; };
    badName = { value = (mkGuest { name = "a b"; }).guest; says = "mkGuest: name: expected ${aName}, got the string \"a b\""; };
    upperName = { value = (mkGuest { name = "Web"; }).guest; says = "mkGuest: name: expected ${aName}, got the string \"Web\""; };
    emptyName = { value = (mkGuest { name = ""; }).guest; says = "mkGuest: name: expected ${aName}, got an empty string"; };
    unknown = refused { servces = { }; } "unknown parameter 'servces'; parameters are cacert, command, env, healthChecks, hostname, name, packages, pkgs, rootfsType, serviceGroup, services, shell, users";
    hostname = refused { hostname = "a_b"; } "hostname: expected a host name (labels of letters, digits and inner '-' joined by '.', 63 at most), got the string \"a_b\"";
    hostnameOfName = { value = (mkGuest { name = "a_b"; }).guest; says = "mkGuest 'a_b': hostname: is needed, since the name 'a_b' can't be a host name"; };
    rootfsType = refused { rootfsType = "xfs"; } "rootfsType: expected one of 'erofs', 'squashfs', 'ext4', got the string \"xfs\"";
    env = refused { env = [ ]; } "env: expected a set of variables, got a list";
    envValue = refused { env.A = true; } "env.A: expected a string or a whole number, got true";
    envName = refused { env."A=B" = ""; } "env: 'A=B' can't be the name of a variable";

    packages = refused { packages = pkgs.hello; } "packages: expected a list, got the derivation 'hello-2'";
    packageText = refused { packages = [ pkgs.hello "curl" ]; } "packages[1]: expected a package, got the string \"curl\"";
    packageSystem = refused { packages = [ pkgs.foreign ]; } "packages[0]: the derivation 'foreign-1' is for aarch64-linux, the guest is x86_64-linux";
    shell = refused { shell = "/bin/sh"; } "shell: expected a package, got the string \"/bin/sh\"";
    cacert = refused { cacert = true; } "cacert: expected a package, got true";

    serviceGroup = refused { serviceGroup = "a:b"; } "serviceGroup: expected ${anAccount}, got the string \"a:b\"";
    serviceGroupRoot = refused { serviceGroup = "root"; } "serviceGroup: 'root' can't be the group of services";

    users = refused { users = [ "u" ]; } "users: expected a set of users, got a list";
    userNull = refused { users = null; } "users: expected a set of users, got null";
    userName = refused { users."u:v" = { }; } "users: expected ${anAccount}, got the string \"u:v\"";
    userRoot = refused { users.root = { }; } "users.root: is there already";
    userGroupName = refused { users.mvm = { }; } "users.mvm: is there already: it is the user and group of services, number 900";
    userUnknown = user { shell = "/bin/sh"; } ": unknown parameter 'shell'; parameters are group, home, uid";
    uid = user { uid = "1000"; } ".uid: expected a whole number from 1 to 65533, got the string \"1000\"";
    uidRoot = user { uid = 0; } ".uid: expected a whole number from 1 to 65533, got the number 0";
    uidOfServices = user { uid = 900; } ".uid: 900 is the number of 'mvm', the user of services";
    uidTwice = refused { users.a.uid = 7; users.b.uid = 7; } "users.b.uid: 7 is the number of 'a' too";
    group = user { group = "Staff"; } ".group: expected ${anAccount}, got the string \"Staff\"";
    groupRoot = user { group = "root"; } ".group: 'root' can't be a user's group";
    home = user { home = "home/u"; } ".home: expected ${aPath}, got the string \"home/u\"";
    homeDots = user { home = "/home/../root"; } ".home: expected ${aPath}, got the string \"/home/../root\"";

    services = refused { services = [ ]; } "services: expected a set of services, got a list";
    serviceText = refused { services.s = "x"; } "services.s: expected a set of parameters, got the string \"x\"";
    serviceName = refused { services."a/b" = { command = "x"; }; } "services: expected ${aName}, got the string \"a/b\"";
    serviceCase = refused { services.Web = { command = "x"; }; } "services: expected ${aName}, got the string \"Web\"";
    checkName = refused { healthChecks."" = { healthCmd = "x"; }; } "healthChecks: expected ${aName}, got an empty string";
    serviceUnknown = service { comand = "x"; } ": unknown parameter 'comand'; parameters are after, command, env, limits, logFile, preStart, restart, stopGraceSecs, user";
    servicesMany = refused { services = many 65; } "services: 65 services; 64 are allowed";
    command = refused { services.s = { }; } "services.s: parameter 'command' is missing";
    commandNull = service { command = null; } ".command: expected ${aCommand}, got null";
    commandEmpty = service { command = ""; } ".command: expected a command, got an empty string";
    commandBlank = service { command = " "; } ".command: expected a command, got the string \" \"";
    commandNone = service { command = [ ]; } ".command: expected a program and its arguments, got an empty list";
    commandNoProgram = service { command = [ "" "x" ]; } ".command[0]: expected a program, got an empty string";
    commandArgument = service { command = [ "x" { } ]; } ".command[1]: expected a string, a whole number or a path, got a set";
    commandPackage = service { command = pkgs.quiet; } ''.command: the derivation 'quiet-1' doesn't say which of its programs is meant (it has no meta.mainProgram): write "''${…}/bin/PROGRAM", or lib.getExe' … "PROGRAM"'';
    commandShell = refused { shell = null; services.s.command = "x"; } "services.s.command: a text is run by a shell, and 'shell' is null: write a list of a program and its arguments, or give 'shell' a package";
    preStart = service { preStart = 1; } ".preStart: expected ${aCommand}, got the number 1";
    serviceEnv = service { env.A = [ ]; } ".env.A: expected a string or a whole number, got a list";
    root = service { user = "root"; } ".user: services never run as root; what needs it goes into preStart";
    uidZero = service { user = 0; } ".user: services never run as root; what needs it goes into preStart";
    unknownUser = refused { users.a = { }; services.s = { command = "x"; user = "b"; }; } "services.s.user: unknown user 'b'; users are a, mvm";
    logFile = service { logFile = "log"; } ".logFile: expected ${aPath}, got the string \"log\"";
    after = refused { services.a = { command = "x"; after = [ "nope" ]; }; services.b.command = "x"; } "services.a.after: unknown service 'nope'; services are a, b";
    afterTwice = refused { services.a = { command = "x"; after = [ "b" "b" ]; }; services.b.command = "x"; } "services.a.after: names a service twice";
    afterItself = service { after = [ "s" ]; } ".after: services wait for each other: s → s";
    afterCircle = refused {
      services.a = { command = "x"; after = [ "b" ]; };
      services.b = { command = "x"; after = [ "c" ]; };
      services.c = { command = "x"; after = [ "b" ]; };
    } "services.b.after: services wait for each other: b → c → b";
    restart = service { restart = "no"; } ".restart: expected one of 'always', 'on-failure', 'never', got the string \"no\"";
    stopGrace = service { stopGraceSecs = -1; } ".stopGraceSecs: expected a whole number from 0 to 86400, got the number -1";
    limits = service { limits.memory = 1; } ".limits: unknown parameter 'memory'; parameters are cpuPercent, memoryMiB, pids";
    limit = service { limits.pids = 0; } ".limits.pids: expected a whole number from 1 to 4194304, got the number 0";

    healthCmd = refused { healthChecks.h = { }; } "healthChecks.h: parameter 'healthCmd' is missing";
    healthUnknown = check { interval = 5; } ": unknown parameter 'interval'; parameters are healthCmd, healthIntervalSecs, healthTimeoutSecs, service, startupGraceSecs";
    healthInterval = check { healthIntervalSecs = 0; } ".healthIntervalSecs: expected a whole number from 1 to 86400, got the number 0";
    healthTimeout = check { healthTimeoutSecs = 1.5; } ".healthTimeoutSecs: expected a whole number from 1 to 86400, got the number 1.500000";
    healthService = check { service = "nope"; } ".service: unknown service 'nope'; there are no services";

    large = { value = (mkGuest { name = "g"; env.A = builtins.concatStringsSep "" (builtins.genList (_: "0123456789abcdef") 65536); }).guest; says = "mkGuest 'g': the guest takes 1049081 bytes to describe, 1048576 are allowed: put long texts into files"; };
    system = {
      value = (library.unsupported "riscv64-linux").mkGuest { name = "g"; };
      says = "mvm.lib.riscv64-linux.mkGuest: there are no guests of this system; systems are x86_64-linux, aarch64-linux";
    };

    python = { value = mkPythonService { name = "p"; src = ./.; entrypoint = "main.py"; }; says = "mkPythonService 'p': parameter 'port' is missing"; };
    pythonFile = { value = (mkPythonService { name = "p"; src = ./.; entrypoint = "../main.py"; port = 1; }).guest; says = "mkPythonService 'p': entrypoint: expected a file's path within src, got the string \"../main.py\""; };
    pythonPackages = { value = (mkPythonService { name = "p"; src = ./.; entrypoint = "m"; port = 1; python = pkgs.hello; pythonPackages = _: [ ]; }).guest; says = "mkPythonService 'p': python: the derivation 'hello-2' has no withPackages, which pythonPackages needs"; };
    node = { value = (mkNodeService { name = "n"; src = ./.; entrypoint = "m"; port = 1; buildPhase = "x"; }).guest; says = "mkNodeService 'n': buildPhase: needs npmHash: without it the source is run as it is"; };
    nodePackages = { value = (mkNodeService { name = "n"; src = ./.; entrypoint = "m"; port = 1; npmHash = "x"; }).guest; says = "mkNodeService 'n': npmHash: needs buildNpmPackage, which this nixpkgs doesn't have"; };
    site = { value = (mkStaticSite { name = "s"; src = "site"; }).guest; says = "mkStaticSite 's': src: expected a path, as ./src, or a package, got the string \"site\""; };
    sitePort = { value = (mkStaticSite { name = "s"; src = ./.; port = 65536; }).guest; says = "mkStaticSite 's': port: expected a whole number from 1 to 65535, got the number 65536"; };
    siteUnknown = { value = mkStaticSite { name = "s"; source = ./.; }; says = "mkStaticSite 's': unknown parameter 'source'; parameters are env, name, port, src, user"; };
  };

  # Pairs of what is and what should be, where they differ.
  documents =
    let
      guest = parameters: (mkGuest ({ name = "g"; } // parameters)).guest;
      bin = package: program: "${package.bin or package.out}/bin/${program}";
      minimal = guest { };
      one = parameters: (guest { services.s = { command = "x"; } // parameters; }).services.s;
      command = command: (one { inherit command; }).command;
      accounts = users: (guest { inherit users; }).users;
      python = mkPythonService { name = "p"; src = ./.; entrypoint = "main.py"; port = 8080; env.A = 1; };
      site = mkStaticSite { name = "s"; src = pkgs.hello; user = "web"; };
      node = mkNodeService { name = "n"; src = pkgs.hello; entrypoint = "dist/main.js"; port = 65535; };
      both = guest {
        services.a.command = "x";
        healthChecks = { a.healthCmd = "y"; b.healthCmd = [ "y" ]; c = { healthCmd = "y"; service = "a"; }; };
        users.web = { };
        services.site = site.service;
        healthChecks.site = site.healthCheck;
      };
      pairs = {
        minimal = [
          minimal
          {
            schema = "mvm.guest.v1";
            name = "g";
            hostname = "g";
            system = "x86_64-linux";
            rootfsType = "erofs";
            packages = [ "${pkgs.busybox}" ];
            serviceGroup = "mvm";
            users = { };
            services = { };
            healthChecks = { };
            command = null;
            variables = { };
            shell = "${pkgs.busybox}/bin/ash";
            env = "${pkgs.busybox}/bin/env";
            caBundle = "${pkgs.cacert.out}/etc/ssl/certs/ca-bundle.crt";
          }
        ];
        bare = [
          { inherit (guest { shell = null; cacert = null; }) packages shell env caBundle; }
          { packages = [ ]; shell = null; env = null; caBundle = null; }
        ];
        service = [
          (one { })
          {
            command = "x";
            preStart = null;
            env = { };
            user = "mvm";
            logFile = "/dev/console";
            after = [ ];
            restart = "always";
            stopGraceSecs = 10;
            limits = { memoryMiB = null; pids = null; cpuPercent = null; };
          }
        ];
        limits = [ (one { limits.pids = 5; }).limits { memoryMiB = null; pids = 5; cpuPercent = null; } ];
        serviceGroup = [ (guest { serviceGroup = "staff"; services.s.command = "x"; }).services.s.user "staff" ];
        health = [
          (guest { healthChecks.h.healthCmd = "x"; }).healthChecks.h
          { healthCmd = "x"; healthIntervalSecs = 30; healthTimeoutSecs = 10; startupGraceSecs = 0; service = null; }
        ];
        healthServices = [ (builtins.mapAttrs (_: c: c.service) both.healthChecks) { a = "a"; b = null; c = "a"; site = "site"; } ];

        # The shell comes last, once; what has env is found in packages first.
        shells = [ (guest { packages = [ pkgs.hello pkgs.busybox pkgs.curl ]; }).packages [ "${pkgs.hello}" "${pkgs.busybox}" "${pkgs.curl.bin}" ] ];
        otherShell = [
          { inherit (guest { shell = pkgs.bash; packages = [ pkgs.coreutils ]; }) packages shell env; }
          { packages = [ "${pkgs.coreutils}" "${pkgs.bash}" ]; shell = "${pkgs.bash}/bin/bash"; env = "${pkgs.coreutils}/bin/env"; }
        ];
        cross = [ (guest { packages = [ pkgs.cross ]; shell = null; }).packages [ "${pkgs.cross}" ] ];
        otherSet = [ (mkGuest { name = "g"; pkgs = pkgs // { busybox = pkgs.bash; }; }).guest.shell "${pkgs.bash}/bin/bash" ];

        text = [ (command "a b") "a b" ];
        list = [ (command [ "a" 1 pkgs.script ]) [ "a" "1" "${pkgs.script}" ] ];
        program = [ (command pkgs.hello) [ (bin pkgs.hello "hello") ] ];
        programOfBin = [ (command [ pkgs.curl "-f" ]) [ (bin pkgs.curl "curl") "-f" ] ];
        script = [ (command pkgs.script) [ "${pkgs.script}" ] ];
        main = [ (guest { command = [ pkgs.hello ]; env.A = 1; }).command [ (bin pkgs.hello "hello") ] ];
        variables = [ (guest { env = { A = 1; B = "b"; }; }).variables { A = "1"; B = "b"; } ];

        # Numbers by order of name, around those that are given.
        users = [
          (accounts { c = { }; a = { }; b = { uid = 1001; home = "/srv/b"; }; })
          {
            a = { uid = 1000; group = "a"; gid = 1000; home = "/home/a"; };
            b = { uid = 1001; group = "b"; gid = 1001; home = "/srv/b"; };
            c = { uid = 1002; group = "c"; gid = 1002; home = "/home/c"; };
          }
        ];
        # A group's number is that of the user of its name, of services, or of the first who has it.
        groups = [
          (builtins.mapAttrs (_: u: u.gid) (accounts { a.group = "z"; b.group = "z"; c.group = "mvm"; d.group = "a"; }))
          { a = 1000; b = 1000; c = 900; d = 1000; }
        ];

        # A service of its own, and one in another guest.
        python = [ python.guest.services.p.env { A = "1"; PYTHONUNBUFFERED = "1"; } ];
        pythonCommand = [ python.service.command [ (bin pkgs.python3 "python3") "${python.package}/main.py" ] ];
        pythonPackages = [
          (builtins.head (mkPythonService { name = "p"; src = ./.; entrypoint = "m"; port = 1; pythonPackages = ps: [ ps.a ]; }).guest.packages)
          "${pkgs.python3.withPackages (ps: [ ps.a ])}"
        ];
        pythonCheck = [ (builtins.elemAt python.guest.healthChecks.p.healthCmd 2) ":1F90 [0-9A-F]*:0000 0A" ];
        node = [ node.guest.services.n.command [ (bin pkgs.nodejs "node") "${pkgs.hello}/dist/main.js" ] ];
        nodeCheck = [ (builtins.elemAt node.healthCheck.healthCmd 2) ":FFFF [0-9A-F]*:0000 0A" ];
        site = [ site.guest.services.s.command [ (bin pkgs.busybox "busybox") "httpd" "-f" "-p" "8080" "-h" "${pkgs.hello}" ] ];
        siteUser = [ site.guest.users.web.uid 1000 ];
        siteInAnother = [ both.services.site.user "web" ];

        # The closure is what the file refers to.
        closure = [
          (builtins.attrNames (builtins.getContext (mkGuest { name = "g"; packages = [ pkgs.hello ]; shell = null; cacert = null; }).text))
          [ pkgs.hello.drvPath ]
        ];
      };
      differing = builtins.filter (name: builtins.elemAt pairs.${name} 0 != builtins.elemAt pairs.${name} 1) (builtins.attrNames pairs);
    in
    map (name: { inherit name; is = builtins.elemAt pairs.${name} 0; shouldBe = builtins.elemAt pairs.${name} 1; }) differing;
}
