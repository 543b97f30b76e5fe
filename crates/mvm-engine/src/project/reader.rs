//! Reads the tables of a TOML document, with the place of everything, and goes on after a mistake.

use super::mistakes::{Mistake, Span};
use crate::error::chain;
use mvm_plan::signal::Signal;
use std::ops::RangeInclusive;
use std::str::FromStr;
use toml::de::{DeTable, DeValue};

/// A text that is read, and what was found to be wrong with it.
pub(super) struct Reading<'a> {
    text: &'a str,
    mistakes: Vec<(Span, Mistake)>,
}

/// A value and where it stands.
#[derive(Clone, Copy)]
pub(super) struct Value<'a> {
    /// The key that it belongs to, for words about it.
    pub key: &'a str,
    pub span: Span,
    value: &'a DeValue<'a>,
}

/// A table of which each known key is taken once; what is left then is unknown.
pub(super) struct Table<'a> {
    title: String,
    /// Where the table begins.
    pub span: Span,
    entries: Vec<(Span, Value<'a>)>,
    known: Vec<&'static str>,
}

/// How long a word must be for each slip in it, if it is to be taken for another one.
const CHARACTERS_A_SLIP: usize = 3;

impl<'a> Reading<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { text, mistakes: Vec::new() }
    }

    /// Notes a mistake.
    pub fn mistake(&mut self, span: Span, message: impl Into<String>) {
        self.mistake_with(span, message, None);
    }

    /// Notes a mistake with what was meant, perhaps.
    pub fn mistake_with(&mut self, span: Span, message: impl Into<String>, help: Option<String>) {
        self.mistakes.push((span, Mistake::new(self.text, span, message.into(), help)));
    }

    /// Notes a mistake whose place holds what nobody should see.
    pub fn mistake_unseen(&mut self, span: Span, message: impl Into<String>) {
        self.mistakes.push((span, Mistake::new(self.text, span, message.into(), None).unseen()));
    }

    /// Returns all mistakes in the order of their places.
    pub fn finish(mut self) -> Vec<Mistake> {
        self.mistakes.sort_by_key(|(span, _)| *span);
        self.mistakes.into_iter().map(|(_, mistake)| mistake).collect()
    }

    fn wrong_kind(&mut self, value: Value<'a>, expected: &str) {
        let got = kind(value.value);
        self.mistake(value.span, format!("`{}` is {got}, expected {expected}", value.key));
    }

    /// Reads a text, which never holds a NUL byte.
    pub fn text(&mut self, value: Value<'a>) -> Option<&'a str> {
        let DeValue::String(text) = value.value else {
            self.wrong_kind(value, "a text in quotes");
            return None;
        };
        if text.contains('\0') {
            self.mistake(value.span, format!("`{}` holds a NUL character", value.key));
            return None;
        }
        Some(text)
    }

    /// Reads a text that isn't empty.
    pub fn word(&mut self, value: Value<'a>) -> Option<&'a str> {
        let text = self.text(value)?;
        if text.is_empty() {
            self.mistake(value.span, format!("`{}` is empty", value.key));
            return None;
        }
        Some(text)
    }

    /// Reads a text into what it stands for.
    pub fn parsed<T: FromStr<Err: std::error::Error + 'static>>(&mut self, value: Value<'a>) -> Option<T> {
        let text = self.word(value)?;
        match text.parse() {
            Ok(parsed) => Some(parsed),
            Err(error) => {
                self.mistake(value.span, chain(&error));
                None
            }
        }
    }

    pub fn boolean(&mut self, value: Value<'a>) -> Option<bool> {
        let boolean = value.value.as_bool();
        if boolean.is_none() {
            self.wrong_kind(value, "true or false");
        }
        boolean
    }

    pub fn number(&mut self, value: Value<'a>, range: RangeInclusive<u32>) -> Option<u32> {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        let Some(integer) = value.value.as_integer() else {
            self.wrong_kind(value, &expected);
            return None;
        };
        let number = u32::from_str_radix(&integer.as_str().replace('_', ""), integer.radix()).ok();
        let number = number.filter(|number| range.contains(number));
        if number.is_none() {
            self.mistake(value.span, format!("`{}` is {}, expected {expected}", value.key, integer.as_str()));
        }
        number
    }

    /// Reads a count of processors, in hundredths of one.
    pub fn processors(&mut self, value: Value<'a>) -> Option<u32> {
        let text = match value.value {
            DeValue::Integer(integer) if integer.radix() == 10 => integer.as_str(),
            DeValue::Float(float) => float.as_str(),
            _ => {
                self.wrong_kind(value, "a number of processors, as 0.5");
                return None;
            }
        };
        let hundredths = text.replace('_', "").parse::<f64>().ok().map(|number| (number * 100.0).round());
        let hundredths = hundredths.filter(|number| (1.0..=102_400.0).contains(number));
        if hundredths.is_none() {
            self.mistake(value.span, format!("`{}` is {text}, expected 0.01 to 1024 processors", value.key));
        }
        // In a range that has an exact integer for each.
        hundredths.map(|number| number as u32)
    }

    /// Reads a length of time in whole seconds: a number, or numbers with units (`90`, `"90s"`, `"1m30s"`).
    pub fn seconds(&mut self, value: Value<'a>, range: RangeInclusive<u32>) -> Option<u32> {
        let DeValue::String(text) = value.value else { return self.number(value, range) };
        let seconds = parse_seconds(text);
        if seconds.is_none() {
            let message = format!(
                "{text:?} is not a length of time; write seconds, or numbers with s, m, h or d (90s, 1m30s)"
            );
            self.mistake(value.span, message);
            return None;
        }
        let seconds = seconds.filter(|seconds| range.contains(seconds));
        if seconds.is_none() {
            let (least, most) = (range.start(), range.end());
            let message = format!("`{}` is {text:?}, expected {least} to {most} seconds", value.key);
            self.mistake(value.span, message);
        }
        seconds
    }

    /// Reads a size in MiB: a number of MiB, or a text with a unit, rounded up.
    pub fn mebibytes(&mut self, value: Value<'a>, least: u32) -> Option<u32> {
        const MOST: u32 = 16 << 20;
        let DeValue::String(text) = value.value else { return self.number(value, least..=MOST) };
        let Ok(size) = text.parse::<crate::size::Size>() else {
            let message = format!(
                "{text:?} is not a size; write MiB as a number, or a text with a unit, as \"512m\" or \"2g\""
            );
            self.mistake(value.span, message);
            return None;
        };
        let mebibytes = u32::try_from(size.bytes().div_ceil(1 << 20)).ok();
        let mebibytes = mebibytes.filter(|size| (least..=MOST).contains(size));
        if mebibytes.is_none() {
            let message = format!("`{}` is {text:?}, expected {least} MiB to 16 TiB", value.key);
            self.mistake(value.span, message);
        }
        mebibytes
    }

    /// Reads one of some words.
    pub fn choice<T: Copy>(&mut self, value: Value<'a>, choices: &[(&'static str, T)]) -> Option<T> {
        let text = self.text(value)?;
        let found = choices.iter().find(|(word, _)| *word == text).map(|(_, choice)| *choice);
        if found.is_none() {
            let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
            let message = format!("`{}` is {text:?}, expected {}", value.key, words.join(", "));
            self.mistake_with(value.span, message, suggestion(text, &words));
        }
        found
    }

    /// Reads a list.
    pub fn list(&mut self, value: Value<'a>) -> Vec<Value<'a>> {
        let Some(items) = value.value.as_array() else {
            self.wrong_kind(value, "a list in [ ]");
            return Vec::new();
        };
        let of = |item: &'a toml::Spanned<DeValue<'a>>| Value {
            key: value.key,
            span: item.span().into(),
            value: item.get_ref(),
        };
        items.iter().map(of).collect()
    }

    /// Reads a list of texts; one text by itself is a list of one.
    pub fn texts(&mut self, value: Value<'a>) -> Vec<String> {
        let items = if value.is_text() { vec![value] } else { self.list(value) };
        items.into_iter().filter_map(|item| Some(self.text(item)?.to_owned())).collect()
    }

    /// Reads a table, inline or not.
    pub fn table(&mut self, value: Value<'a>, title: String) -> Option<Table<'a>> {
        let Some(table) = value.value.as_table() else {
            self.wrong_kind(value, &format!("a table {title}"));
            return None;
        };
        Some(Table::new(title, value.span, table))
    }

    /// Reads a command: a list of program and arguments, or a text for `/bin/sh -c`.
    pub fn command(&mut self, value: Value<'a>) -> Option<Vec<String>> {
        if value.is_text() {
            let text = self.word(value)?.to_owned();
            return Some(vec!["/bin/sh".to_owned(), "-c".to_owned(), text]);
        }
        let words = self.texts(value);
        if value.value.is_array() && words.first().is_none_or(String::is_empty) {
            self.mistake(value.span, format!("`{}` names no program", value.key));
            return None;
        }
        Some(words)
    }

    /// Reads an absolute path of the guest.
    pub fn path(&mut self, value: Value<'a>) -> Option<String> {
        let text = self.word(value)?;
        if !text.starts_with('/') || text.len() > 4096 {
            self.mistake(
                value.span,
                format!("`{}` is {text:?}, expected an absolute path in the guest", value.key),
            );
            return None;
        }
        Some(text.to_owned())
    }

    /// Reads a signal by its name or number.
    pub fn signal(&mut self, value: Value<'a>) -> Option<Signal> {
        match value.value {
            DeValue::Integer(_) => self.number(value, 1..=64)?.to_string().parse().ok(),
            _ => self.parsed(value),
        }
    }

    /// Reads variables of an environment: a table of names and values.
    pub fn environment(&mut self, value: Value<'a>) -> Vec<String> {
        let Some(table) = self.table(value, "of names and values: { NAME = \"value\" }".to_owned()) else {
            return Vec::new();
        };
        let mut variables = Vec::new();
        for (span, value) in table.items() {
            let text = match value.value {
                DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str()),
                DeValue::Float(number) => Some(number.as_str()),
                DeValue::Boolean(true) => Some("true"),
                DeValue::Boolean(false) => Some("false"),
                _ => self.text(value),
            };
            if value.key.is_empty() || value.key.contains(['=', '\0']) {
                self.mistake(span, format!("{:?} is no name of a variable", value.key));
            } else if let Some(text) = text {
                variables.push(format!("{}={text}", value.key));
            }
        }
        variables
    }
}

impl Value<'_> {
    pub fn is_text(&self) -> bool {
        self.value.is_str()
    }

    pub fn is_table(&self) -> bool {
        self.value.is_table()
    }

    pub fn is_integer(&self) -> bool {
        self.value.is_integer()
    }
}

impl<'a> Table<'a> {
    pub fn new(title: String, span: Span, table: &'a DeTable<'a>) -> Self {
        let entry =
            |(key, value): (&'a toml::Spanned<toml::de::DeString<'a>>, &'a toml::Spanned<DeValue<'a>>)| {
                let value = Value { key: key.get_ref(), span: value.span().into(), value: value.get_ref() };
                (key.span().into(), value)
            };
        Self { title, span, entries: table.iter().map(entry).collect(), known: Vec::new() }
    }

    /// Says that the table begins elsewhere, at its name.
    pub fn at(mut self, span: Span) -> Self {
        self.span = span;
        self
    }

    /// Takes the value of a key, which is known from then on.
    pub fn get(&mut self, key: &'static str) -> Option<Value<'a>> {
        self.known.push(key);
        self.entries.iter().find(|(_, value)| value.key == key).map(|(_, value)| *value)
    }

    /// Takes the value of a key without which the table means nothing.
    pub fn require(&mut self, key: &'static str, reading: &mut Reading<'a>) -> Option<Value<'a>> {
        let value = self.get(key);
        if value.is_none() {
            reading.mistake(self.span, format!("{} has no `{key}`", self.title));
        }
        value
    }

    /// Returns all entries, each with the place of its key, in the order of their names.
    pub fn items(&self) -> impl Iterator<Item = (Span, Value<'a>)> + use<'a> {
        self.entries.clone().into_iter()
    }

    /// Notes the keys that nobody took.
    pub fn finish(self, reading: &mut Reading<'a>) {
        for (span, value) in &self.entries {
            if !self.known.contains(&value.key) {
                let message = format!("unknown key `{}` in {}", value.key.escape_debug(), self.title);
                let help = suggestion(value.key, &self.known);
                reading.mistake_with(*span, message, help);
            }
        }
    }
}

/// Returns "did you mean …?" for the word that is most like one that isn't known.
pub(super) fn suggestion(word: &str, known: &[&str]) -> Option<String> {
    let word = word.to_ascii_lowercase().replace('_', "-");
    if word.len() > 64 {
        return None;
    }
    let slips = known.iter().map(|known| (strsim::damerau_levenshtein(&word, known), known));
    let few =
        |(slips, known): &(usize, &&str)| *slips <= word.chars().count().max(known.len()) / CHARACTERS_A_SLIP;
    let best = slips.filter(few).min_by_key(|(slips, _)| *slips);
    best.map(|(_, known)| format!("did you mean `{known}`?"))
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a point",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn parse_seconds(text: &str) -> Option<u32> {
    if text.is_empty() {
        return None;
    }
    let (mut rest, mut total) = (text, 0_u32);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let number: u32 = rest[..digits].parse().ok()?;
        let factor = match rest[digits..].chars().next() {
            None if rest.len() == text.len() => 1,
            Some('s') => 1,
            Some('m') => 60,
            Some('h') => 3600,
            Some('d') => 86_400,
            _ => return None,
        };
        total = total.checked_add(number.checked_mul(factor)?)?;
        rest = rest.get(digits + 1..).unwrap_or_default();
    }
    Some(total)
}
