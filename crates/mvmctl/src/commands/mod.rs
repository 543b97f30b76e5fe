//! One module per verb.

pub mod audit;
pub mod completions;
pub mod df;
pub mod doctor;
pub mod exec;
pub mod gc;
pub mod image;
pub mod kernel;
pub mod key;
pub mod launch;
pub mod login;
pub mod logout;
pub mod man;
pub mod network;
pub mod plan;
pub mod policy;
pub mod pull;
pub mod run;
pub mod scope;
pub mod signing;
pub mod supervise;
pub mod unpack;
pub mod verify_key;
pub mod version;
pub mod vm;
pub mod volume;
