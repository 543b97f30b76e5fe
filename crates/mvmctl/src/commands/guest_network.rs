//! The options of all verbs that make a plan about the guest's network.

use clap::ValueEnum;
use mvm_engine::{Destination, GuestNetwork, NetworkWordError, Port, PortMapping, user_network};
use std::str::FromStr;

const HEADING: &str = "Guest network options";

/// The guest's network.
#[derive(clap::Args)]
pub struct GuestNetworkArgs {
    /// Network of the guest
    #[arg(help_heading = HEADING, id = "guest_network", long = "network", value_enum, default_value_t = Kind::User)]
    kind: Kind,
    /// Let the guest reach these and nothing else: allow=HOST[:PORT],…, or none (may be repeated). Names are looked up
    /// now
    #[arg(help_heading = HEADING, long, value_name = "RULE")]
    egress: Vec<Egress>,
    /// Let the guest reach these although they are addresses of this machine or on its link (may be repeated)
    #[arg(help_heading = HEADING, long, value_name = "HOST[:PORT]", value_delimiter = ',')]
    allow_host: Vec<Destination>,
    /// Forward a port of this machine's loopback, or of IP, to the guest; without HOST a free one (may be repeated, and be
    /// a range)
    #[arg(help_heading = HEADING, long, short, value_name = "[[IP:]HOST:]GUEST[/udp]")]
    publish: Vec<PortMapping>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// An interface; what it sends goes on from this machine, but not to it
    User,
    /// Loopback only
    None,
}

/// Destinations that are allowed.
#[derive(Clone)]
struct Egress(Vec<Destination>);

impl FromStr for Egress {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        if text == "none" {
            return Ok(Self(Vec::new()));
        }
        let Some(list) = text.strip_prefix("allow=") else {
            anyhow::bail!("write allow=HOST[:PORT],… or none");
        };
        let destinations: Result<_, NetworkWordError> = list.split(',').map(str::parse).collect();
        Ok(Self(destinations?))
    }
}

impl GuestNetworkArgs {
    /// Returns the ports that are forwarded.
    pub fn ports(&self) -> Vec<Port> {
        self.publish.iter().flat_map(|mapping| mapping.ports().to_vec()).collect()
    }

    /// Returns the network, all names looked up.
    pub fn resolve(self) -> anyhow::Result<GuestNetwork> {
        if self.kind == Kind::None {
            anyhow::ensure!(
                self.egress.is_empty() && self.allow_host.is_empty(),
                "--network none leaves nothing for --egress and --allow-host to allow"
            );
            return Ok(GuestNetwork::None);
        }
        let listed = !self.egress.is_empty();
        let egress: Vec<Destination> = self.egress.into_iter().flat_map(|egress| egress.0).collect();
        Ok(user_network(listed.then_some(&egress[..]), &self.allow_host)?)
    }
}
