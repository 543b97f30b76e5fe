//! A maker of tar archives, header by header.

/// One header block in the making; ustar, mode 0644, a file without data.
#[derive(Clone, Debug)]
pub struct Header([u8; 512]);

impl Header {
    /// Starts a header.
    pub fn new(flag: u8, name: &[u8]) -> Self {
        let mut header = Self([0; 512]);
        header.put(0, &name[..name.len().min(100)]).octal(100, 8, 0o644).octal(108, 8, 0).octal(116, 8, 0);
        header.octal(124, 12, 0).octal(136, 12, 1_700_000_000).put(257, b"ustar\x0000");
        header.0[156] = flag;
        header
    }

    /// Writes bytes at an offset.
    pub fn put(&mut self, at: usize, bytes: &[u8]) -> &mut Self {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    /// Writes octal digits and a NUL at an offset.
    pub fn octal(&mut self, at: usize, width: usize, value: u64) -> &mut Self {
        let digits = format!("{value:0digits$o}\0", digits = width - 1);
        self.put(at, digits.as_bytes())
    }
}

/// An archive in the making.
#[derive(Clone, Debug, Default)]
pub struct Archive(Vec<u8>);

impl Archive {
    /// Adds an entry with its data.
    pub fn add(&mut self, header: &Header, data: &[u8]) -> &mut Self {
        let mut header = header.clone();
        if !data.is_empty() {
            header.octal(124, 12, data.len() as u64);
        }
        seal(&mut header.0);
        self.block(&header.0).block(data)
    }

    /// Adds bytes and pads them to a block.
    pub fn block(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    /// Adds an entry without anything special.
    pub fn entry(&mut self, flag: u8, name: &str, data: &str) -> &mut Self {
        self.add(&Header::new(flag, name.as_bytes()), data.as_bytes())
    }

    /// Adds a link.
    pub fn link(&mut self, flag: u8, name: &str, target: &str) -> &mut Self {
        self.add(Header::new(flag, name.as_bytes()).put(157, target.as_bytes()), b"")
    }

    /// Adds a PAX header for the next entry (`x`) or all that follow (`g`).
    pub fn pax(&mut self, flag: u8, records: &[(&str, &[u8])]) -> &mut Self {
        let text: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
        self.add(&Header::new(flag, b"PaxHeaders/x"), &text)
    }

    /// Returns the archive with the mark of its end.
    pub fn end(&self) -> Vec<u8> {
        [&self.0[..], &[0; 1024]].concat()
    }
}

fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let body = key.len() + value.len() + 3;
    let mut len = body;
    while len != body + len.to_string().len() {
        len = body + len.to_string().len();
    }
    [format!("{len} {key}=").as_bytes(), value, b"\n"].concat()
}

/// Writes the right checksum into a header.
pub fn seal(header: &mut [u8]) {
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}
